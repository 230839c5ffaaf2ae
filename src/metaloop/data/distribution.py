"""What a data set is: a distribution over tasks for each of three splits."""

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.problems.problem import Line, Problem
from metaloop.types import EpisodeSpec, Tasks, highest

SPLITS = ("train", "validation", "test")


class TaskDistribution(ABC):
    """p(T) of one split; an instance is complete when constructed and lives on one device.

    Attributes:
        problem: what tasks ask, and how answers are scored.
        input_shape: one example's shape; for named tensors the shape of the first.
        episodes: how many episodes exist, or None where they never end.
        spec: the only size that episodes can have, or None where they are drawn in any size.
        has_unlabelled: whether :meth:`draw` gives ``spec.unlabelled`` examples; where it does not, they are refused.
        num_classes: classes of the split, which ``Tasks.classes`` then numbers from 0, or None where it has no such numbers.
        oracle_name: what :meth:`oracle` is called beside its score; empty where there is no oracle.
    """

    problem: Problem
    input_shape: tuple[int, ...]
    episodes: int | None = None
    spec: EpisodeSpec | None = None
    num_classes: int | None = None
    has_unlabelled: bool = False
    oracle_name: str = ""

    @abstractmethod
    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError, naming the class or key at fault, where ``spec`` asks for more than there is."""

    @abstractmethod
    def outputs(self, spec: EpisodeSpec) -> int:
        """How many numbers a model must answer per query: the (highest) ways, or the target's size."""

    def elements(self, spec: EpisodeSpec) -> int:
        """About how many input numbers an episode has, which decides how many are drawn at once."""
        examples = highest(spec.ways) * (highest(spec.shots) + spec.queries)
        examples += (highest(spec.ways) + spec.distractors) * spec.unlabelled
        return examples * math.prod(self.input_shape)

    @abstractmethod
    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """The episodes with these numbers, a pure function of its arguments.

        Args:
            stream: the split's random numbers.
            numbers: (tasks,) int64 on this distribution's device.
            spec: the episodes' size; has passed :meth:`check`.
        """

    def oracle(self, stream: Stream, tasks: Tasks) -> Tensor:
        """(tasks, queries, *output): the answers of the process that drew these episodes, where there is an oracle."""
        raise NotImplementedError(f"{type(self).__name__} has no oracle")

    def line(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Line | None:
        """The true functions of these episodes, for pictures; None where tasks are no functions of one number."""
        return None

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same distribution with its tensors on ``device``."""


class Dataset(ABC):
    """The three splits of a data set. Nothing is read before :meth:`split` asks for it."""

    @abstractmethod
    def split(self, name: str) -> TaskDistribution:
        """The distribution of ``"train"``, ``"validation"`` or ``"test"``; the same object each time.

        Raises:
            UserError: the data is missing or broken (names path, command and licence), or the split does not exist.
        """
