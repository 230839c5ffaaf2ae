"""Learned update rules: agents that learn in one task from a random start, by targets that a meta-network gives."""
