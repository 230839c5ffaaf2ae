"""The interface of a problem: what a learner predicts in a task, and how its predictions are scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from metaloop.metrics.interval import Interval
from metaloop.problems.metric import Metric
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import EpisodeSpec, Examples, Inputs, Span, Tasks

Scores = dict[str, Tensor]  # by name, episodes on the first axis


class Answers(Protocol):
    """An adapted learner, which maps inputs (tasks, queries, *input) to outputs."""

    def __call__(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """Compute the outputs (tasks, queries, *output)."""

    def curve(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """Compute the outputs before adaptation and after inner steps (points, tasks, queries, *output)."""


@dataclass(frozen=True)
class Baseline:
    """Predictor that needs no training.

    Attributes:
        name: Name beside its score in reports.
        answer: Function of a support set (tasks, examples, ...) and inputs (tasks, queries, *input) that returns outputs.
    """

    name: str
    answer: Callable[[Examples, Inputs], Tensor]


@dataclass(frozen=True)
class Line:
    """True functions of tasks with one-dimensional inputs, for pictures.

    Attributes:
        grid: (points,) inputs.
        values: (tasks, points) values of the functions at these inputs, without noise.
    """

    grid: Tensor
    values: Tensor


class Problem(ABC):
    """Kind of task: what a learner predicts, how predictions are scored, and how scores are shown.

    Attributes:
        name: Name of the problem in records, such as ``"classification"``.
        metric: Metric of the score by which runs are compared.
        loss: Loss of one task.
        statistics: Metrics of further statistics; the name of each is its key in :meth:`scores`, :meth:`details` or
            :meth:`pooled`. A statistic that an evaluation lacks is left out.
        sampled: Number of episodes in one picture of :meth:`samples`.
    """

    name: str
    metric: Metric
    loss: TaskLoss
    statistics: tuple[Metric, ...] = ()
    sampled: int = 1

    @property
    def has_classes(self) -> bool:
        """Whether a task's targets are class numbers; otherwise they are values."""
        return self.loss.of_classes

    @abstractmethod
    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """Score every episode.

        Args:
            outputs: (tasks, queries, *output).
            query: The query examples with their targets.

        Returns:
            Tensors (tasks,): ``score``, in the unit of :attr:`metric` before its scale; ``loss``; and further columns of
            ``episodes.csv``.
        """

    def losses(self, outputs: Tensor, query: Examples) -> Tensor:
        """Compute :attr:`loss` of every episode (tasks,), one by one, for a ``scores`` without a faster way."""
        tasks = Tasks(query, query, torch.arange(len(outputs), device=outputs.device))
        return torch.stack([self.loss(each, tasks.map(lambda t, i=i: t[i]).query) for i, each in enumerate(outputs)])  # type: ignore[misc]

    def details(self, outputs: Tensor, query: Examples, outside: Tensor | None = None) -> Scores:
        """Compute further tensors (tasks, ...) of the final outputs for :meth:`pooled`.

        Tensors (tasks,) are also columns of ``episodes.csv``; ``returns`` (tasks, queries), one by one, become a curve.

        Args:
            outputs: (tasks, queries, *output).
            query: The query examples with their targets.
            outside: (tasks, outside, *output), outputs for ``Tasks.outside``; None if there are none.
        """
        return {}

    def errors(self, means: Tensor, deviations: Tensor | None, targets: Tensor) -> Tensor:
        """Errors (n,) of predicted values, in the target's unit, whose mean is :attr:`metric`; of no use for other outputs.

        Args:
            means: (n,).
            deviations: (n,) standard deviations of predicted normal distributions; None for plain values.
            targets: (n,).
        """
        return (means - targets).square()

    def pooled(self, scores: Mapping[str, Tensor]) -> dict[str, Interval]:
        """Compute statistics of all episodes together that are not means over episodes.

        Args:
            scores: Results of :meth:`scores` and :meth:`details` for all episodes.
        """
        return {}

    def selection(self, scores: Mapping[str, Tensor]) -> tuple[Metric, Tensor]:
        """Metric whose mean over meta-validation episodes selects the best checkpoint, and its values (tasks,)."""
        return self.metric, scores["score"]

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """Baseline for examples of this shape; None if the problem has none."""
        return None

    def setting(self, ways: Span, shots: Span) -> str:
        """Size of an episode in words, such as ``10-shot``."""
        return f"{span_text(shots)}-shot"

    def size(self, spec: EpisodeSpec) -> str:
        """Size of an episode in words, as it stands in records: :meth:`setting`, unless queries count as well."""
        return self.setting(spec.ways, spec.shots)

    def samples(self, answers: Answers, tasks: Tasks, line: Line | None) -> Scores | None:
        """Arrays of some episodes for a picture in the report; None if the problem has no picture of them.

        Args:
            answers: Learner adapted to ``tasks.support``.
            tasks: At most :attr:`sampled` episodes.
            line: Their true functions; None if inputs are not one-dimensional.
        """
        return None


def span_text(span: Span) -> str:
    """Format a number, or a range such as ``5–20``."""
    return str(span) if isinstance(span, int) else f"{span[0]}–{span[1]}"
