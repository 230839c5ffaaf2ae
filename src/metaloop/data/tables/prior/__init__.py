"""Synthetic tables from random causal models, on which a tabular learner is meta-trained."""
