"""metaloop: Hydra-configured meta-learning experiments.

Public names are imported at their first use, together with torch and Hydra, so that ``import metaloop`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

import metaloop.system.import_time  # noqa: F401 - first, because a process measures its start-up from here

__version__ = "0.2.0"

if TYPE_CHECKING:
    from metaloop.config.composed import compose as compose
    from metaloop.data.distribution import Dataset as Dataset
    from metaloop.data.distribution import TaskDistribution as TaskDistribution
    from metaloop.errors import UserError as UserError
    from metaloop.evaluation.adapted_model import AdaptedModel as AdaptedModel
    from metaloop.evaluation.adapted_model import adapt_to as adapt_to
    from metaloop.evaluation.adapted_model import load_model as load_model
    from metaloop.evaluation.evaluate import evaluate as evaluate
    from metaloop.evaluation.finished_run import FinishedRun as FinishedRun
    from metaloop.evaluation.finished_run import load_run as load_run
    from metaloop.evaluation.pretrained.estimators import MetaloopClassifier as MetaloopClassifier
    from metaloop.evaluation.pretrained.estimators import MetaloopRegressor as MetaloopRegressor
    from metaloop.inner.meta_gradients.meta_gradient import MetaGradient as MetaGradient
    from metaloop.inner.rules.rule import InnerRule as InnerRule
    from metaloop.learners.learner import Learner as Learner
    from metaloop.learners.metric.comparison import Comparison as Comparison
    from metaloop.problems.metric import Metric as Metric
    from metaloop.problems.problem import Problem as Problem
    from metaloop.records.runs import find_runs as find_runs
    from metaloop.records.runs import read_run as read_run
    from metaloop.runs.start import train as train
    from metaloop.types import EpisodeSpec as EpisodeSpec
    from metaloop.types import Examples as Examples
    from metaloop.types import Tasks as Tasks

_MODULES = {
    "AdaptedModel": "evaluation.adapted_model",
    "Comparison": "learners.metric.comparison",
    "Dataset": "data.distribution",
    "EpisodeSpec": "types",
    "Examples": "types",
    "FinishedRun": "evaluation.finished_run",
    "InnerRule": "inner.rules.rule",
    "Learner": "learners.learner",
    "MetaGradient": "inner.meta_gradients.meta_gradient",
    "MetaloopClassifier": "evaluation.pretrained.estimators",
    "MetaloopRegressor": "evaluation.pretrained.estimators",
    "Metric": "problems.metric",
    "Problem": "problems.problem",
    "TaskDistribution": "data.distribution",
    "Tasks": "types",
    "UserError": "errors",
    "adapt_to": "evaluation.adapted_model",
    "compose": "config.composed",
    "evaluate": "evaluation.evaluate",
    "find_runs": "records.runs",
    "load_model": "evaluation.adapted_model",
    "load_run": "evaluation.finished_run",
    "read_run": "records.runs",
    "train": "runs.start",
}
__all__ = sorted([*_MODULES, "__version__"])


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'metaloop' has no attribute {name!r}")
    value = vars(import_module(f"metaloop.{_MODULES[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
