"""Episodes by number: a meta-batch is a pure function of the numbers of its episodes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from metaloop.data.distribution import TaskDistribution
from metaloop.data.padding import blank_padding
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Tasks

# Drawing many episodes together costs little more than drawing one. So several meta-batches are drawn together, up to:
_BLOCK_BATCHES = 64
_STRETCH_BATCHES = 256  # the same where hundreds of meta-batches are needed at once
_BLOCK_ELEMENTS = 2**22


def check_spec(distribution: TaskDistribution, spec: EpisodeSpec) -> None:
    """Raise a UserError if ``distribution`` has no episodes of this size."""
    if spec.unlabelled and not distribution.has_unlabelled:
        raise UserError(f"{spec.key('unlabelled')}={spec.unlabelled}: this data set has no unlabelled examples; set it to 0")
    distribution.check(spec)


@dataclass(frozen=True)
class Episodes:
    """The fixed sequence of episodes of a split.

    Attributes:
        distribution: the distribution of tasks.
        spec: size of the episodes.
        stream: random numbers of the episodes.

    Raises:
        UserError: the distribution has no episodes of this size.
    """

    distribution: TaskDistribution
    spec: EpisodeSpec
    stream: Stream

    def __post_init__(self) -> None:
        check_spec(self.distribution, self.spec)

    def tasks(self, numbers: torch.Tensor) -> Tasks:
        """Draw the episodes with these numbers, (tasks,) int64 on the distribution's device."""
        tasks = blank_padding(self.distribution.draw(self.stream, numbers, self.spec))
        # The randomness inside a task must differ between seeds and splits, as the tasks do.
        high, low = self.stream.bits(numbers, 2, "within a task").unbind(-1)
        return replace(tasks, support=replace(tasks.support, number=(high << 8) + (low >> 24)))

    def batches(
        self, first: int, stop: int, size: int, device: torch.device | str, *, rank: int = 0, ranks: int = 1
    ) -> Iterator[Tasks]:
        """Draw meta-batches of ``size`` consecutive episodes from ``first`` up to ``stop`` (exclusive). The last may be small.

        With several ranks a meta-batch is global, and each rank gets a consecutive share of it.
        """
        share = -(-size // ranks)
        mine = torch.tensor(
            [n for s in range(first, stop, size) for n in range(s + rank * share, min(s + (rank + 1) * share, s + size))]
        )
        mine = mine[mine < stop].to(device)
        block = share * self._batches_at_once(share)
        for start in range(0, len(mine), block):
            drawn = self.tasks(mine[start : start + block])
            for low in range(0, len(drawn), share):
                yield drawn[low : low + share]

    def blocks(self, first: int, stop: int, size: int) -> Iterator[Tasks]:
        """Draw the episodes from ``first`` up to ``stop`` (exclusive) on the CPU, several meta-batches of ``size`` together.

        Their number is a multiple of ``size``.
        """
        block = size * self._batches_at_once(size, _STRETCH_BATCHES)
        for start in range(first, stop, block):
            yield self.tasks(torch.arange(start, min(start + block, stop)))

    def _batches_at_once(self, size: int, most: int = _BLOCK_BATCHES) -> int:
        elements = size * self.distribution.elements(self.spec)
        return max(1, min(most, _BLOCK_ELEMENTS // elements))
