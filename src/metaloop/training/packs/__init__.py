"""Packs: runs of a sweep whose stretches of outer steps are computed together, by one function with an axis over the runs."""
