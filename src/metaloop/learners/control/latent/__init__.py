"""Learners that infer a latent variable of the task and act by its posterior."""
