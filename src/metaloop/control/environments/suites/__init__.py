"""Benchmarks of other packages: families with the tasks and the splits of their authors."""
