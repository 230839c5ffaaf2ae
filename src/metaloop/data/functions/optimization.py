"""Task distributions of optimisation problems, for learned optimisers (Andrychowicz et al. 2016).

A problem is a task whose query examples are among its support examples: an optimiser is judged by the loss that it minimises,
not by how the optimum generalises. Where a task starts is no part of the problem; take ``algorithm/head_init=fresh``.
"""

import math
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import SPLITS, Dataset, TaskDistribution
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.regression import Regression
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest


class QuadraticProblems(TaskDistribution):
    """``f(p) = |W p - y|^2`` with the entries of W and y independent standard normal (section 3.1 of the paper).

    Support example i of ``shots = n`` is row i of W and entry i of y, both times ``sqrt(n)``: so the mean squared error of a
    linear model with weights p, which is what an inner step descends and what is scored, is the paper's sum of squares.
    The query examples are the support examples. The authors' code draws W and y uniform in [0, 1]; ours follows the paper.

    Args:
        dimension: of p, columns of W.
    """

    problem = Regression()

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise UserError(f"dataset.dimension={dimension}: at least 1")
        self.input_shape = (dimension,)

    def check(self, spec: EpisodeSpec) -> None:
        """The rows of W have no classes, and all of them are asked again."""
        if spec.ways != 1 or spec.shots != spec.queries:
            raise UserError(
                f"episode.ways={spec.ways}, episode.shots={spec.shots}, episode.queries={spec.queries}: a quadratic problem "
                f"has ways=1, and the same number of shots (rows of W) and queries (the same rows); take episode=regression"
            )

    def outputs(self, spec: EpisodeSpec) -> int:
        """One number a row of W."""
        return 1

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`; x is float32 (tasks, shots, dimension), y (tasks, shots, 1)."""
        rows, (columns,) = highest(spec.shots), self.input_shape
        drawn = math.sqrt(rows) * stream.normal(numbers, rows * (columns + 1), "quadratic").float()
        x, y = drawn.view(len(numbers), rows, columns + 1).split([columns, 1], -1)
        return Tasks(Examples(x, y), Examples(x, y), numbers)

    def to(self, device: torch.device | str) -> Self:
        """Problems are made on the device of the episode numbers; nothing to move."""
        return self


class Quadratics(Dataset):
    """:class:`QuadraticProblems` in every split; the splits' streams differ.

    Args:
        dimension: of the unknown.
    """

    def __init__(self, dimension: int) -> None:
        self._problems = QuadraticProblems(dimension)

    def split(self, name: str) -> QuadraticProblems:
        """See :meth:`Dataset.split`."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        return self._problems


class FittingProblems(TaskDistribution):
    """To fit the ``ways * shots`` support examples of an episode of ``base``; the queries are a random part of them.

    So the query loss is an unbiased estimate of the training loss, whatever minibatches (``algorithm.inner_batch``) the inner
    steps see. The authors judge by the minibatch that a step saw.

    Args:
        base: a classification data set's split.
    """

    def __init__(self, base: TaskDistribution) -> None:
        if not base.problem.has_classes:
            raise UserError("dataset.dataset: problems of fitting classes need a classification data set")
        self.base = base
        self.problem = base.problem
        self.input_shape = base.input_shape
        self.num_classes = base.num_classes

    def check(self, spec: EpisodeSpec) -> None:
        """One size, fewer queries than shots, and what ``base`` asks for."""
        if spec.variable or spec.queries >= highest(spec.shots):
            raise UserError(
                f"episode.ways={spec.ways}, episode.shots={spec.shots}, episode.queries={spec.queries}: an optimisation "
                f"problem has one number of ways and shots, and its queries are some of the shots: fewer queries than shots"
            )
        self.base.check(self._inner(spec))

    def outputs(self, spec: EpisodeSpec) -> int:
        """As many as ``base``."""
        return self.base.outputs(spec)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`; of each class the last ``queries`` support examples are the queries."""
        drawn, ways = self.base.draw(stream, numbers, self._inner(spec)), highest(spec.ways)
        rest, query = drawn.support, drawn.query
        x = _joined(rest.x, query.x, ways)
        y = _join(rest.y, query.y, ways)
        return Tasks(Examples(x, y, None, rest.ways), query, numbers, drawn.classes)

    @staticmethod
    def _inner(spec: EpisodeSpec) -> EpisodeSpec:
        """An episode of ``base`` whose support and query examples together are the problem's support examples."""
        return EpisodeSpec(spec.ways, highest(spec.shots) - spec.queries, spec.queries)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.base.to(device))


def _join(first: Tensor, second: Tensor, ways: int) -> Tensor:
    """Two parts (tasks, ways * n, ...) of every class as one (tasks, ways * (n + m), ...), class by class."""
    return torch.cat([first.unflatten(1, (ways, -1)), second.unflatten(1, (ways, -1))], 2).flatten(1, 2)


def _joined(first: Inputs, second: Inputs, ways: int) -> Inputs:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _join(first, second, ways)
    return {name: _join(value, second[name], ways) for name, value in first.items()}  # type: ignore[union-attr, index]


class Fitting(Dataset):
    """:class:`FittingProblems` of every split of a classification data set.

    Args:
        dataset: the examples; its splits stay apart, so meta-test problems are about examples never seen.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._splits: dict[str, FittingProblems] = {}

    def split(self, name: str) -> FittingProblems:
        """See :meth:`Dataset.split`."""
        if name not in self._splits:
            self._splits[name] = FittingProblems(self._dataset.split(name))
        return self._splits[name]
