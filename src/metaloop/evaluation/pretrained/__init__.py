"""Runs that come with the package, and estimators of scikit-learn that predict with them."""
