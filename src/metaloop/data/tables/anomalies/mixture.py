"""A distribution that draws each task from one of two others."""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Tasks


class Mixture(TaskDistribution):
    """Tasks of ``first`` with the probability ``share``, else of ``second``; both give tasks of one shape, with masks or not.

    Args:
        first: a distribution.
        second: another of the same problem, input shape and outputs.
        share: probability of the first, in [0, 1].
    """

    def __init__(self, first: TaskDistribution, second: TaskDistribution, share: float) -> None:
        self.first, self.second, self.share = first, second, share
        self.problem, self.input_shape = first.problem, first.input_shape

    def check(self, spec: EpisodeSpec) -> None:
        """See :meth:`TaskDistribution.check`, for both."""
        self.first.check(spec)
        self.second.check(spec)

    def outputs(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.outputs`."""
        return self.first.outputs(spec)

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`; of the larger."""
        return max(self.first.elements(spec), self.second.elements(spec))

    def contents(self) -> SplitContents | None:
        """See :meth:`TaskDistribution.contents`; those of the second, or of the first if it has none."""
        return self.second.contents() or self.first.contents()

    def class_name(self, number: int) -> str:
        """See :meth:`TaskDistribution.class_name`; of the second."""
        return self.second.class_name(number)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        of_first = stream.uniform(numbers, 1, "which distribution")[:, 0] < self.share
        parts = [(self.first, of_first), (self.second, ~of_first)]
        drawn = [each.draw(stream, numbers[chosen], spec) for each, chosen in parts if bool(chosen.any())]
        order = torch.cat([chosen.nonzero()[:, 0] for _, chosen in parts]).argsort()
        return _joined([_with_masks(tasks) for tasks in drawn]).map(lambda tensor: tensor[order])

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.first.to(device), self.second.to(device), self.share)


def _with_masks(tasks: Tasks) -> Tasks:
    """The same tasks with a mask of their own, so that all tasks have one."""
    masked = [
        replace(
            each, mask=torch.ones(each.y.shape[:2], dtype=torch.bool, device=each.y.device) if each.mask is None else each.mask
        )
        for each in (tasks.support, tasks.query)
    ]
    return replace(tasks, support=masked[0], query=masked[1])


def _joined(parts: list[Tasks]) -> Tasks:
    """The tasks of all parts, one part after another."""
    joined: Tasks = tree_map(lambda *tensors: torch.cat(tensors), *parts)
    return joined
