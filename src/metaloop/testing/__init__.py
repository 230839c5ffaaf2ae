"""Contracts that a user's own class can be held to; see docs/adding.md.

Each function takes an object (or what builds it), tries what the rest of the package relies on, and raises a :class:`BrokenLaw`
that says which law was broken and by how much. They take seconds and no files.
"""

from metaloop.testing.comparison import check_comparison
from metaloop.testing.dataset import check_dataset
from metaloop.testing.laws import BrokenLaw
from metaloop.testing.learner import check_learner
from metaloop.testing.model import check_model

__all__ = ["BrokenLaw", "check_comparison", "check_dataset", "check_learner", "check_model"]
