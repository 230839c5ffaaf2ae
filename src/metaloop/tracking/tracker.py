"""What every tracker is: a receiver of a run's numbers while it runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told about the run.

    Attributes:
        directory: of the run.
        name: of the run.
        group: of the runs that belong together, such as a sweep; None for a run alone.
        job_type: such as ``train``.
        tags: short labels to find the run by.
        config: resolved, as plain data.
        resumed_step: the outer step that the run goes on after; 0 for one that starts.
    """

    directory: Path
    name: str
    group: str | None
    job_type: str
    tags: tuple[str, ...]
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
    """The meta-test's numbers by name: ``test/accuracy`` (in [0, 1]), its ``_half_width``, losses and the like."""
    test = (record or {}).get("test")
    if not test:
        return {}
    parts = {test["metric"]: test, **test.get("others", {})}
    scores: dict[str, float] = {"test/episodes": test["episodes"]}
    for name, part in parts.items():
        scores[f"test/{name}"] = part["mean"]
        if part.get("half_width") is not None:
            scores[f"test/{name}_half_width"] = part["half_width"]
    return scores
