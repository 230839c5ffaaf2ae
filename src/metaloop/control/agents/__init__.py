"""Policies that learn within a task alone: the classical algorithms of bandits and of tabular decision processes."""
