"""Which classes are for meta-training, meta-validation and meta-test: given by lists, or drawn in shares."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from metaloop.data.distribution import SPLITS
from metaloop.data.texts.text_reading import TextFile
from metaloop.errors import UserError

# What a split is called in people's files.
LISTED = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}


def by_shares(names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """``names``, shuffled, shared out in proportion to ``shares``, in their order within each split.

    Raises:
        UserError: a share is missing or not positive, or a split would get no class.
    """
    if set(shares) != set(SPLITS) or not all(_positive(share) for share in shares.values()):
        raise UserError(f"dataset.shares={dict(shares)}: a positive number for each of {', '.join(SPLITS)}")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(names))
    ends = np.cumsum([shares[split] for split in SPLITS]) / sum(shares.values()) * len(names)
    bounds = [0, *(int(end) for end in np.round(ends))]
    found = {
        split: [names[k] for k in sorted(order[bounds[number] : bounds[number + 1]])] for number, split in enumerate(SPLITS)
    }
    if not all(found.values()):
        sizes = ", ".join(f"{split} {len(chosen)}" for split, chosen in found.items())
        raise UserError(f"dataset.shares: {len(names)} classes would be shared out as {sizes}; each split needs some")
    return found


def _positive(share: Any) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and share > 0


def check_lists(lists: Mapping[str, Any]) -> None:
    """Raise a UserError unless there is a list, or a file's name, for each split."""
    if set(lists) != set(SPLITS) or not all(lists.values()):
        raise UserError(
            f"dataset.class_lists: names of classes, or a file, for each of {', '.join(SPLITS)}; got {sorted(lists)}"
        )


def listed(
    lists: Mapping[str, str | Sequence[str]], known: Collection[str], read: Callable[[str], TextFile]
) -> dict[str, list[str]]:
    """The classes that each split's list names.

    Args:
        lists: names, or a file's name, for each split.
        known: the classes there are.
        read: opens a list's file.

    Raises:
        UserError: a list names a class that there is not, or that another list names.
    """
    found: dict[str, list[str]] = {}
    for split in SPLITS:
        given = lists[split]
        lines = read(given).lines() if isinstance(given, str) else list(map(str, given))
        found[split] = [line.strip() for line in lines if line.strip()]
        where = f"dataset.class_lists.{split}" + (f" ({given})" if isinstance(given, str) else "")
        unknown = [name for name in found[split] if name not in known]
        if unknown or not found[split]:
            raise UserError(f"{where}: no texts of class {unknown[0]!r}" if unknown else f"{where}: names no class")
        earlier = [name for other in found for name in found[other] if other != split]
        twice = [name for k, name in enumerate(found[split]) if name in earlier or name in found[split][:k]]
        if twice:
            raise UserError(f"{where}: class {twice[0]!r} is named twice; a class is in one split only")
    return found
