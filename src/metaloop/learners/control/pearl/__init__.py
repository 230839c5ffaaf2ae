"""PEARL: off-policy meta-learning of control by a probabilistic context (Rakelly et al. 2019)."""
