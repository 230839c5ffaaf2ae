"""Families of environments, batched over tasks."""
