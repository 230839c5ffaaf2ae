"""The interface of trackers, which receive a run's numbers while it runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """Description of a run for its trackers.

    Attributes:
        directory: Run directory.
        name: Name of the run.
        group: Name of the sweep; None for a single run.
        choices: Option of each config group, such as ``algorithm: maml``.
        config: Resolved config as plain data.
        resumed_step: Outer step from which the run resumes; 0 for a new run.
    """

    directory: Path
    name: str
    group: str | None
    choices: Mapping[str, str]
    config: Mapping[str, Any]
    resumed_step: int


class Tracker(ABC):
    """Receiver of a run's numbers. Only rank zero calls it."""

    @abstractmethod
    def start(self, run: RunInfo) -> None:
        """Begin tracking a new or resumed run; a resumed run logs the rows after ``run.resumed_step`` again."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Receive one row: metrics by name after ``step`` outer steps."""

    @abstractmethod
    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """End tracking, whether the run finished or failed.

        Args:
            record: Record of a finished run; None otherwise.
            status: ``finished`` or ``failed``.
        """


def scores_of(record: Mapping[str, Any] | None) -> dict[str, float]:
    """The meta-test's numbers by name: ``test/score``, ``test/score_half_width``, and the same for the other metrics.

    The score is named as in training and meta-validation, so that trackers show the three side by side.
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
