"""Episodes as large as a user's own data allow."""

from collections.abc import Sequence
from dataclasses import replace

from metaloop.data.distribution import TaskDistribution
from metaloop.data.episodes import check_spec
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec


def fitted_spec(
    splits: Sequence[TaskDistribution], spec: EpisodeSpec, most_ways: int | None = None
) -> tuple[EpisodeSpec, list[str]]:
    """Reduce the numbers of ways and queries until all splits have episodes of this size.

    Args:
        splits: The splits that the episodes are drawn from.
        spec: Size of the episodes; ranges stay as they are.
        most_ways: Further limit of the number of ways; None for none.

    Returns:
        The size, with as many ways as possible and, of these, as many queries; and what was changed, as sentences.

    Raises:
        UserError: Not even the smallest episodes of these shots exist; as for the size itself.
    """
    if most_ways is not None and isinstance(spec.ways, int):
        spec = replace(spec, ways=min(spec.ways, most_ways))
    reason = _reason(splits, spec)
    if reason is None:
        return spec, []
    for ways in range(spec.ways, 1, -1) if isinstance(spec.ways, int) else [spec.ways]:
        for queries in range(spec.queries, 0, -1):
            smaller = replace(spec, ways=ways, queries=queries)
            if _reason(splits, smaller) is None:
                return smaller, _changes(spec, smaller, str(reason))
    raise reason


def _reason(splits: Sequence[TaskDistribution], spec: EpisodeSpec) -> UserError | None:
    """Why there are no such episodes; None if there are."""
    try:
        for split in splits:
            check_spec(split, spec)
    except UserError as error:
        return error
    return None


def _changes(asked: EpisodeSpec, spec: EpisodeSpec, reason: str) -> list[str]:
    sizes = {"ways": (asked.ways, spec.ways), "queries": (asked.queries, spec.queries)}
    changed = [f"{spec.key(name)} is {now} instead of {before}" for name, (before, now) in sizes.items() if before != now]
    return [f"{', '.join(changed)}, to fit the data ({reason})"]
