"""Task distributions of optimisation problems, for learned optimisers (Andrychowicz et al. 2016).

The query examples of a problem are some of its support examples. So an optimiser is scored by the loss that it minimises, not
by generalisation. The starting point is not part of the problem; use ``algorithm/head_init=fresh``.
"""

import math
from copy import copy
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import Dataset, TaskDistribution, check_split
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.classification import Classification
from metaloop.problems.regression import Regression
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest


class QuadraticProblems(TaskDistribution):
    """Problems ``f(p) = |W p - y|^2`` with independent standard normal entries of W and y (section 3.1 of the paper).

    With ``shots = n``, support example i is row i of W and entry i of y, both multiplied by ``sqrt(n)``. So the mean squared
    error of a linear model with weights p, which the inner steps minimise and which is the score, equals the paper's sum of
    squares. The query examples are the support examples. The authors' code draws W and y uniformly from [0, 1]; ours follows
    the paper.

    Args:
        dimension: dimension of p, the number of columns of W.
    """

    problem = Regression()

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise UserError(f"dataset.dimension={dimension} must be at least 1")
        self.input_shape = (dimension,)

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError unless ways is 1 and the queries are as many as the shots."""
        if spec.ways != 1 or spec.shots != spec.queries:
            raise UserError(
                f"{spec.said('ways', 'shots', 'queries')}: a quadratic problem "
                f"needs ways=1 and equal numbers of shots (rows of W) and queries (the same rows); use episode=regression"
            )

    def baseline(self) -> None:
        """None: the queries are support examples, so the score is that of an optimiser."""

    def outputs(self, spec: EpisodeSpec) -> int:
        """One number for each row of W."""
        return 1

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`; x is float32 (tasks, shots, dimension), y (tasks, shots, 1)."""
        rows, (columns,) = highest(spec.shots), self.input_shape
        drawn = math.sqrt(rows) * stream.normal(numbers, rows * (columns + 1), "quadratic").float()
        system = drawn.view(len(numbers), rows, columns + 1)
        x, y = system[..., :columns], system[..., columns:]
        return Tasks(Examples(x, y), Examples(x, y), numbers)

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution: problems are created on the device of the episode numbers."""
        return self


class Quadratics(Dataset):
    """:class:`QuadraticProblems` in every split; each split has its own random stream.

    Args:
        dimension: see :class:`QuadraticProblems`.
    """

    def __init__(self, dimension: int) -> None:
        self._problems = QuadraticProblems(dimension)

    def split(self, name: str) -> QuadraticProblems:
        """See :meth:`Dataset.split`."""
        check_split(name)
        return self._problems


class FittingProblems(TaskDistribution):
    """Problems of fitting the ``ways * shots`` support examples of an episode of ``base``.

    The queries are a random part of the support examples. So the query loss is an unbiased estimate of the training loss,
    whatever minibatches (``algorithm.inner_batch``) the inner steps use. The authors instead use the loss of the minibatch of
    the step. The best checkpoint is that of the lowest loss: nearly every optimiser soon has all examples right.

    Args:
        base: a split of a classification data set.
    """

    def __init__(self, base: TaskDistribution) -> None:
        if not isinstance(base.problem, Classification):
            raise UserError("dataset.dataset must be a classification data set: the problems fit classes")
        self.base = base
        self.problem = copy(base.problem)
        self.problem.selects_by_loss = True
        self.input_shape = base.input_shape
        self.num_classes = base.num_classes

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if sizes vary, if there are not fewer queries than shots, or if ``base`` refuses the size."""
        if spec.variable or spec.queries >= highest(spec.shots):
            raise UserError(
                f"{spec.said('ways', 'shots', 'queries')}: an optimisation "
                f"problem needs one number of ways, one of shots, and fewer queries than shots, since queries are some of them"
            )
        self.base.check(self._inner(spec))

    def baseline(self) -> None:
        """None: the queries are support examples, which their nearest neighbours would always know."""

    def outputs(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.outputs`."""
        return self.base.outputs(spec)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`. The last ``queries`` support examples of each class are also the queries."""
        drawn, ways = self.base.draw(stream, numbers, self._inner(spec)), highest(spec.ways)
        support, query = drawn.support, drawn.query
        x = _join_inputs(support.x, query.x, ways)
        y = _join(support.y, query.y, ways)
        return Tasks(Examples(x, y, None, support.ways), query, numbers, drawn.classes)

    @staticmethod
    def _inner(spec: EpisodeSpec) -> EpisodeSpec:
        """The size of an episode of ``base`` whose support and query together form the problem's support set."""
        return EpisodeSpec(spec.ways, highest(spec.shots) - spec.queries, spec.queries)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.base.to(device))


def _join(first: Tensor, second: Tensor, ways: int) -> Tensor:
    """Join (tasks, ways * n, ...) and (tasks, ways * m, ...) class by class into (tasks, ways * (n + m), ...)."""
    parts = [torch.unflatten(part, 1, (ways, -1)) for part in (first, second)]
    return torch.cat(parts, 2).flatten(1, 2)


def _join_inputs(first: Inputs, second: Inputs, ways: int) -> Inputs:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return _join(first, second, ways)
    return {name: _join(value, second[name], ways) for name, value in first.items()}  # type: ignore[union-attr, index]


class Fitting(Dataset):
    """:class:`FittingProblems` of every split of a classification data set.

    Args:
        dataset: the classification data set. Its splits stay separate, so meta-test problems have unseen examples.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._splits: dict[str, FittingProblems] = {}

    def split(self, name: str) -> FittingProblems:
        """See :meth:`Dataset.split`."""
        if name not in self._splits:
            self._splits[name] = FittingProblems(self._dataset.split(name))
        return self._splits[name]
