"""Outer steps between two rows of metrics, taken by one compiled function outside Lightning's loop."""
