"""Equal examples of a pool, which an episode does not have in both its support and its query set."""

import logging
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec, highest

log = logging.getLogger(__name__)

REPEATS = ("apart", "anywhere")  # whether copies may be in support and query of one episode
_NEVER = 2**32  # above every key by which queries are ordered


@dataclass(frozen=True)
class Copies:
    """The examples of a pool by what they show: equal examples have equal numbers.

    Attributes:
        numbers: (examples,) int64, ordered by class as the pool is.
        starts: (classes,) int64, the place of each class's first example.
        most: number of examples of the largest class.
        largest: of each class, how often each of its different examples occurs, in descending order.
        shared: the same of those examples alone that also occur in other classes.
    """

    numbers: Tensor
    starts: Tensor
    most: int
    largest: tuple[list[int], ...]
    shared: tuple[list[int], ...]

    @classmethod
    def of(cls, classes: Sequence[Sequence[Hashable]]) -> Self | None:
        """Compare the examples of all classes; None if all are different."""
        numbers: dict[Hashable, int] = {}
        rows = [torch.tensor([numbers.setdefault(each, len(numbers)) for each in examples]) for examples in classes]
        if len(numbers) == sum(map(len, rows)):
            return None
        counts = [Counter(row.tolist()) for row in rows]
        holders = Counter(number for count in counts for number in count)
        largest = [sorted(count.values(), reverse=True) for count in counts]
        shared = [sorted((times for n, times in count.items() if holders[n] > 1), reverse=True) for count in counts]
        sizes = torch.tensor([len(row) for row in rows])
        return cls(torch.cat(rows), sizes.cumsum(0) - sizes, int(sizes.max()), tuple(largest), tuple(shared))

    def check(self, spec: EpisodeSpec, names: Sequence[str], split: str) -> None:
        """Raise a UserError if a class could have too few examples that are no copies of an episode's support examples."""
        shots, others = highest(spec.shots), (highest(spec.ways) - 1) * highest(spec.shots)
        for name, largest, shared in zip(names, self.largest, self.shared, strict=True):
            left = sum(largest) - sum(largest[:shots]) - sum(shared[:others])
            if left < spec.queries + spec.unlabelled:
                more = f" + {spec.key('unlabelled')}={spec.unlabelled}" if spec.unlabelled else ""
                asked = f"{spec.key('queries')}={spec.queries}{more}"
                raise UserError(
                    f"{asked}: class {name!r} of the {split} split has {sum(largest)} examples, "
                    f"{len(largest)} of them different, so {shots} shots may leave only {max(0, left)} that are no copies of a "
                    f"support example; take fewer queries or shots, or set dataset.repeats=anywhere, with which a query may be "
                    f"such a copy"
                )

    def elements(self, spec: EpisodeSpec) -> int:
        """Number of values that drawing an episode takes, for :meth:`TaskDistribution.elements`."""
        return 4 * highest(spec.ways) * self.most

    def draw(self, stream: Stream, numbers: Tensor, classes: Tensor, sizes: Tensor, shots: int, queries: int) -> Tensor:
        """Draw the examples of episodes, with no query that equals a support example of any class of its episode.

        Args:
            stream: random numbers of the split.
            numbers: (tasks,) numbers of the episodes.
            classes: (tasks, ways) classes of the episodes.
            sizes: (tasks, ways) number of examples of these classes.
            shots: support examples of each class.
            queries: queries of each class, as many as :meth:`check` allows.

        Returns:
            (tasks, ways, shots + queries) places of the examples within their classes.
        """
        support = stream.without_replacement(numbers, sizes, shots, "drawings")
        places = torch.arange(self.most, device=numbers.device)
        free = places < sizes[..., None]  # (tasks, ways, most)
        shown = self.numbers[(self.starts[classes][..., None] + places).clamp(max=len(self.numbers) - 1)]
        for number in shown.gather(-1, support).flatten(1).unbind(1):
            free = free & (shown != number[:, None, None])
        keys = stream.bits(numbers, shown[0].numel(), "queries without copies").view(shown.shape)
        query = keys.masked_fill(~free, _NEVER).argsort(dim=-1, stable=True)[..., :queries]
        return torch.cat([support, query], -1)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, numbers=self.numbers.to(device), starts=self.starts.to(device))


def count_repeats(splits: Mapping[str, Sequence[Sequence[Hashable]]]) -> dict[str, tuple[int, int]]:
    """Count examples by split, given those of each class of each split.

    Returns:
        By split, how many examples equal an earlier one of their class, and how many equal one of another class of any split.
    """
    counts = {split: [Counter(examples) for examples in classes] for split, classes in splits.items()}
    holders = Counter(example for classes in counts.values() for count in classes for example in count)
    return {
        split: (
            sum(sum(count.values()) - len(count) for count in classes),
            sum(times for count in classes for example, times in count.items() if holders[example] > 1),
        )
        for split, classes in counts.items()
    }


def tell_repeats(counts: Mapping[str, ExampleCounts], kind: str, *, apart: bool) -> None:
    """Warn of equal examples.

    Args:
        counts: what was counted in each split.
        kind: what the examples are, in the plural.
        apart: whether no episode has equal examples in support and query.
    """
    total = sum(count.examples for count in counts.values())
    repeated = sum(count.repeated or 0 for count in counts.values())
    contradictory = sum(count.contradictory or 0 for count in counts.values())
    if repeated:
        where = "are never" if apart else "can be"
        message = "%s of %s %s repeat another of their class; copies %s in both support and query of one episode"
        log.warning(message, f"{repeated:,}", f"{total:,}", kind, where)
    if contradictory:
        log.warning("%s of %s %s are in several classes", f"{contradictory:,}", f"{total:,}", kind)


def check_repeats(repeats: str) -> None:
    """Raise a UserError for an unknown ``dataset.repeats``."""
    if repeats not in REPEATS:
        raise UserError(f"dataset.repeats={repeats!r} must be one of {', '.join(REPEATS)}")
