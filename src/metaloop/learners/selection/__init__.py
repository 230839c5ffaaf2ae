"""Learners that choose a learner for a data set."""
