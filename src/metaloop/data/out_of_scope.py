"""Episodes with further queries that belong to no class and should be rejected."""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool, as_read
from metaloop.data.split_contents import split_contents
from metaloop.problems.classification import Classification
from metaloop.problems.problem import Baseline
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Inputs, Tasks, map_inputs


class WithOutOfScope(TaskDistribution):
    """The episodes of ``base``, unchanged, with out-of-scope queries in ``Tasks.outside``.

    Args:
        base: the distribution of episodes.
        out_of_scope: examples of no class, (examples, *input) or a mapping of such tensors.
        count: number of out-of-scope queries in each episode, at most the number of examples.
    """

    problem = Classification()

    def __init__(self, base: ClassPool, out_of_scope: Inputs, count: int) -> None:
        self.base, self.out_of_scope, self.count = base, out_of_scope, count
        self.input_shape, self.num_classes, self.has_unlabelled = base.input_shape, base.num_classes, base.has_unlabelled
        self.inputs = base.inputs
        first = out_of_scope if isinstance(out_of_scope, Tensor) else next(iter(out_of_scope.values()))
        self._examples = len(first)

    def check(self, spec: EpisodeSpec) -> None:
        """See :meth:`TaskDistribution.check`."""
        self.base.check(spec)

    def class_name(self, number: int) -> str:
        """See :meth:`TaskDistribution.class_name`."""
        return self.base.class_name(number)

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; what is out of scope counts as one more class."""
        inside, outside = self.base.contents(), split_contents({"out of scope": self._examples}, self.out_of_scope)
        return SplitContents({**inside.classes, **outside.classes}, f"{inside.digest} {outside.digest}")

    def baseline(self) -> Baseline | None:
        """See :meth:`TaskDistribution.baseline`."""
        return self.base.baseline()

    def outputs(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.outputs`."""
        return self.base.outputs(spec)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        total = torch.full((len(numbers), 1), self._examples, device=numbers.device)
        rows = stream.without_replacement(numbers, total, self.count, "outside")[:, 0]
        queries = as_read(map_inputs(lambda pool: pool[rows], self.out_of_scope))
        return replace(self.base.draw(stream, numbers, spec), outside=queries)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.base.to(device), map_inputs(lambda tensor: tensor.to(device), self.out_of_scope), self.count)
