"""What every tracker is: a receiver of a run's numbers while it runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """What a tracker knows of the run.

    Attributes:
        directory: Run directory.
        name: Name of the run.
        group: Name of the sweep; None for a run alone.
        choices: Option of each config group, such as ``algorithm: maml``.
        config: Resolved config as plain data.
        resumed_step: Outer step after which the run goes on; 0 for a run that starts.
    """

    directory: Path
    name: str
    group: str | None
    choices: Mapping[str, str]
    config: Mapping[str, Any]
    resumed_step: int


class Tracker(ABC):
    """Receives a run's numbers. Called by rank zero alone."""

    @abstractmethod
    def start(self, run: RunInfo) -> None:
        """The run starts or goes on; what was logged after ``run.resumed_step`` will come again."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One row: metrics by name after ``step`` outer steps."""

    @abstractmethod
    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """The run ends, in whatever way: ``record`` is None where it did not reach its end.

        Args:
            record: of the finished run.
            status: ``finished`` or what else happened.
        """


def scores_of(record: Mapping[str, Any] | None) -> dict[str, float]:
    """The meta-test's numbers by name: ``test/score``, its ``_half_width``, and other metrics by their own names.

    The score has the name that it has in training and meta-validation, so that all trackers show the three side by side.
    """
    test = (record or {}).get("test")
    if not test:
        return {}
    scores: dict[str, float] = {"test/episodes": test["episodes"]}
    for name, part in {"score": test, **test.get("others", {})}.items():
        scores[f"test/{name}"] = part["mean"]
        if part.get("half_width") is not None:
            scores[f"test/{name}_half_width"] = part["half_width"]
    return scores
