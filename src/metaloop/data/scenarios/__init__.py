"""Algorithm-selection scenarios: how well which learner does on which data set."""
