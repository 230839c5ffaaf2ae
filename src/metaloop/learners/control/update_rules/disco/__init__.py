"""Disco103, an update rule that was discovered by machine (Oh et al. 2025), with its published weights."""
