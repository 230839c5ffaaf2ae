"""Ratings of items by users: tables of them, their division, and users as tasks."""
