"""A classification data set with some wrong support labels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.problem import Baseline
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec, Examples, Tasks


class NoisyEpisodes(TaskDistribution):
    """The episodes of ``base`` with some wrong support labels. Query labels are unchanged, so scores remain correct.

    A wrong label is drawn independently for each example, uniformly from the other classes of the episode ("UniformFlip" of
    Ren et al. 2018, section 4). The noise is a function of the episode's number.

    Args:
        base: a split of a classification data set.
        fraction: probability that a support label is wrong, in [0, 1).
    """

    def __init__(self, base: TaskDistribution, fraction: float) -> None:
        if not base.problem.has_classes:
            raise UserError("dataset.dataset must be a classification data set: wrong labels need classes")
        self.base = base
        self.fraction = fraction
        self.problem = base.problem
        self.input_shape = base.input_shape
        self.episodes, self.spec, self.num_classes = base.episodes, base.spec, base.num_classes
        self.has_unlabelled, self.inputs = base.has_unlabelled, base.inputs

    def check(self, spec: EpisodeSpec) -> None:
        """See :meth:`TaskDistribution.check`."""
        self.base.check(spec)

    def class_name(self, number: int) -> str:
        """See :meth:`TaskDistribution.class_name`."""
        return self.base.class_name(number)

    def baseline(self) -> Baseline | None:
        """See :meth:`TaskDistribution.baseline`."""
        return self.base.baseline()

    def outputs(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.outputs`."""
        return self.base.outputs(spec)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        tasks = self.base.draw(stream, numbers, spec)
        return replace(tasks, support=replace(tasks.support, y=self._labels(stream, numbers, tasks.support)))

    def _labels(self, stream: Stream, numbers: Tensor, support: Examples) -> Tensor:
        """The noisy labels (tasks, examples). A wrong label is shifted by 1 to ways - 1, modulo the number of real classes."""
        y = support.y
        real = torch.ones_like(y, dtype=torch.bool) if support.mask is None else support.mask
        ways = torch.where(real, y + 1, 1).amax(1, keepdim=True)  # of each task
        wrong = stream.uniform(numbers, y.shape[1], "wrong labels") < self.fraction
        shift = 1 + stream.integers(numbers, y.shape[1], "wrong classes", (ways - 1).clamp(min=1))
        return torch.where(wrong & real, (y + shift) % ways, y)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.base.to(device), self.fraction)


class NoisyLabels(Dataset):
    """:class:`NoisyEpisodes` of every split of a classification data set, in training and in testing.

    Args:
        dataset: the data set with correct labels.
        fraction: probability that a support label is wrong, in [0, 1).
    """

    def __init__(self, dataset: Dataset, fraction: float) -> None:
        if not 0 <= fraction < 1:
            raise UserError(f"dataset.fraction={fraction} must be the share of wrong labels, in [0, 1)")
        self._dataset = dataset
        self._fraction = fraction
        self._splits: dict[str, NoisyEpisodes] = {}

    def split(self, name: str) -> NoisyEpisodes:
        """See :meth:`Dataset.split`."""
        if name not in self._splits:
            self._splits[name] = NoisyEpisodes(self._dataset.split(name), self._fraction)
        return self._splits[name]

    def counts(self) -> Mapping[str, ExampleCounts]:
        """See :meth:`Dataset.counts`; those of the other data set."""
        return self._dataset.counts()
