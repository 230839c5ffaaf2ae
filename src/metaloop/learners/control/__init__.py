"""Learners that act in environments."""
