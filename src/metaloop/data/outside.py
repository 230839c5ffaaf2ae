"""Episodes that are also asked about examples of none of their classes, to be rejected."""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool, as_read
from metaloop.problems.classification import Classification
from metaloop.types import EpisodeSpec, Inputs, Tasks, map_inputs


class WithOutside(TaskDistribution):
    """The episodes of ``base``, unchanged, with ``Tasks.outside`` drawn from examples of no class.

    Args:
        base: the classes.
        outside: (examples, *input), or a mapping of such tensors.
        asked: of these, how many each episode has; at most all.
    """

    problem = Classification()

    def __init__(self, base: ClassPool, outside: Inputs, asked: int) -> None:
        self.base, self.outside, self.asked = base, outside, asked
        self.input_shape, self.num_classes, self.has_unlabelled = base.input_shape, base.num_classes, base.has_unlabelled
        self.names, self.rotations = base.names, base.rotations
        first = outside if isinstance(outside, Tensor) else next(iter(outside.values()))
        self._examples = len(first)

    def check(self, spec: EpisodeSpec) -> None:
        """As ``base``."""
        self.base.check(spec)

    def outputs(self, spec: EpisodeSpec) -> int:
        """As many as ``base``."""
        return self.base.outputs(spec)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        total = torch.full((len(numbers), 1), self._examples, device=numbers.device)
        rows = stream.without_replacement(numbers, total, self.asked, "outside")[:, 0]
        asked = as_read(map_inputs(lambda pool: pool[rows], self.outside))
        return replace(self.base.draw(stream, numbers, spec), outside=asked)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.base.to(device), map_inputs(lambda tensor: tensor.to(device), self.outside), self.asked)
