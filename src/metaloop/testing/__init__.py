"""Checks of a user's own class against metaloop's contracts; see docs/adding.md.

Each function takes an object, or a function that builds it, and tests the properties ("laws") that metaloop relies on. It
raises a :class:`BrokenLaw` that names the broken law and by how much it is broken. A check takes seconds and needs no files.
"""

from metaloop.testing.comparison import check_comparison
from metaloop.testing.dataset import check_dataset
from metaloop.testing.environment import check_environment
from metaloop.testing.laws import BrokenLaw
from metaloop.testing.learner import check_learner
from metaloop.testing.model import check_model

__all__ = ["BrokenLaw", "check_comparison", "check_dataset", "check_environment", "check_learner", "check_model"]
