"""The contract of a problem: what is asked of a learner in a task, and how its answers are scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from metaloop.metrics.interval import Interval
from metaloop.problems.metric import Metric
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, Span, Tasks

Scores = dict[str, Tensor]  # by name, episodes on the first axis


class Answers(Protocol):
    """An adapted learner: inputs (tasks, queries, *input) in, outputs out."""

    def __call__(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """(tasks, queries, *output)."""

    def curve(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """(points, tasks, queries, *output): the outputs before adaptation and after inner steps."""


@dataclass(frozen=True)
class Baseline:
    """Answers that need no training.

    Attributes:
        name: what a person reads beside its score.
        answer: maps a support set (tasks, examples, ...) and inputs (tasks, queries, *input) to outputs.
    """

    name: str
    answer: Callable[[Examples, Inputs], Tensor]


@dataclass(frozen=True)
class Line:
    """The true functions of tasks with one input number, for pictures.

    Attributes:
        grid: (points,) inputs.
        values: (tasks, points) the noiseless functions there.
    """

    grid: Tensor
    values: Tensor


class Problem(ABC):
    """What a task distribution asks, how answers are scored, and how scores are shown.

    Attributes:
        name: identifies the problem in records, such as ``"classification"``.
        metric: of the score by which runs are compared.
        loss: of one task.
        statistics: metrics of what is reported beside the score; the name of each is its key in :meth:`scores`,
            :meth:`details` or :meth:`pooled`. Those that an evaluation lacks are left out.
        sampled: how many episodes one picture of :meth:`samples` shows.
    """

    name: str
    metric: Metric
    loss: TaskLoss
    statistics: tuple[Metric, ...] = ()
    sampled: int = 1

    @property
    def has_classes(self) -> bool:
        """Whether a task's targets are numbers of classes; otherwise they are values."""
        return self.loss.of_classes

    @abstractmethod
    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """Score every episode.

        Args:
            outputs: (tasks, queries, *output).
            query: what was asked.

        Returns:
            (tasks,) each: ``score``, in the unit of :attr:`metric` before its scale; ``loss``; and further columns of
            episodes.csv.
        """

    def losses(self, outputs: Tensor, query: Examples) -> Tensor:
        """(tasks,): :attr:`loss` of every episode, for a ``scores`` that has nothing faster."""
        tasks = Tasks(query, query, torch.arange(len(outputs), device=outputs.device))
        return torch.stack([self.loss(each, tasks.map(lambda t, i=i: t[i]).query) for i, each in enumerate(outputs)])  # type: ignore[misc]

    def details(self, outputs: Tensor, query: Examples, outside: Tensor | None = None) -> Scores:
        """Further tensors (tasks, ...) of the final answers, kept for :meth:`pooled`; (tasks,) are columns too.

        Args:
            outputs: (tasks, queries, *output).
            query: what was asked.
            outside: (tasks, outside, *output), the outputs for ``Tasks.outside``; None where there are none.
        """
        return {}

    def pooled(self, scores: Mapping[str, Tensor]) -> dict[str, Interval]:
        """Statistics of all episodes together that are no mean over episodes.

        Args:
            scores: :meth:`scores` and :meth:`details` of all episodes.
        """
        return {}

    def selection(self, scores: Mapping[str, Tensor]) -> tuple[Metric, Tensor]:
        """The metric by whose mean over meta-validation episodes the best checkpoint is chosen, and its values (tasks,)."""
        return self.metric, scores["score"]

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """The baseline for examples of this shape; None where no baseline makes sense."""
        return None

    def setting(self, ways: Span, shots: Span) -> str:
        """The size of an episode as people say it, such as ``10-shot``."""
        return f"{span_text(shots)}-shot"

    def samples(self, answers: Answers, tasks: Tasks, line: Line | None) -> Scores | None:
        """Arrays of some episodes for the report's pictures; None where they make no picture.

        Args:
            answers: the learner, adapted to ``tasks.support``.
            tasks: :attr:`sampled` episodes or fewer.
            line: their true functions; None where inputs are more than one number.
        """
        return None


def span_text(span: Span) -> str:
    """A number, or a range such as ``5–20``."""
    return str(span) if isinstance(span, int) else f"{span[0]}–{span[1]}"
