"""Division of classes into meta-training, meta-validation and meta-test, by lists or by random shares."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from metaloop.data.distribution import SPLITS
from metaloop.data.texts.text_reading import TextFile
from metaloop.errors import UserError

# Names of splits in users' files, and the splits that they mean.
SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}


def split_named(name: Any) -> str | None:
    """Return the split that a user's file calls ``name``, in any case and with blanks around it; None if it means none."""
    return SPLIT_NAMES.get(str(name).strip().lower())


def by_shares(names: Sequence[str], shares: Mapping[str, float], seed: int, least: int = 1) -> dict[str, list[str]]:
    """Shuffle classes and divide them in proportion to ``shares``. Within a split they keep their original order.

    Args:
        names: The classes.
        shares: Share of each split.
        seed: Seed of the shuffle.
        least: Fewest classes of a split that has any, if there are enough for that.

    Raises:
        UserError: a share is missing or not positive, or a split would get no class.
    """
    if set(shares) != set(SPLITS) or not all(_positive(share) for share in shares.values()):
        raise UserError(f"dataset.shares={dict(shares)} must have a positive number for each of {', '.join(SPLITS)}")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(names))
    ends = np.cumsum([shares[split] for split in SPLITS]) / sum(shares.values()) * len(names)
    first, second, total = (int(end) for end in np.round(ends))
    if len(names) >= least * len(SPLITS) and 0 < min(first, second - first, total - second) < least:
        first = min(max(first, least), total - 2 * least)
        second = min(max(second, first + least), total - least)
    bounds = [0, first, second, total]
    splits = {
        split: [names[k] for k in sorted(order[bounds[number] : bounds[number + 1]])] for number, split in enumerate(SPLITS)
    }
    if not all(splits.values()):
        sizes = ", ".join(f"{split} {len(classes)}" for split, classes in splits.items())
        raise UserError(f"dataset.shares divides {len(names)} classes into {sizes}; every split needs at least one")
    return splits


def _positive(share: Any) -> bool:
    return isinstance(share, int | float) and not isinstance(share, bool) and share > 0


def check_lists(lists: Mapping[str, Any]) -> None:
    """Raise a UserError unless every split has a list, or the name of a file."""
    if set(lists) != set(SPLITS) or not all(lists.values()):
        raise UserError(
            f"dataset.class_lists needs class names, or a file's name, for each of {', '.join(SPLITS)}; got {sorted(lists)}"
        )


def by_lists(
    lists: Mapping[str, str | Sequence[str]],
    known: Collection[str],
    read: Callable[[str], TextFile],
    spelling: Callable[[str], str] = str.strip,
) -> dict[str, list[str]]:
    """Divide classes by the list of each split.

    Args:
        lists: for each split, class names or the name of a file with one name a line.
        known: all classes of the data set.
        read: opens a list's file.
        spelling: brings the name of a class to the spelling of ``known``.

    Raises:
        UserError: a list is empty, names an unknown class, or names a class twice or one of another list.
    """
    splits: dict[str, list[str]] = {}
    used: set[str] = set()
    for split in SPLITS:
        source = lists[split]
        lines = read(source).lines() if isinstance(source, str) else list(map(str, source))
        splits[split] = [spelling(line) for line in lines if line.strip()]
        key = f"dataset.class_lists.{split}" + (f" ({source})" if isinstance(source, str) else "")
        unknown = [name for name in splits[split] if name not in known]
        if unknown or not splits[split]:
            raise UserError(f"{key}: there are no texts of class {unknown[0]!r}" if unknown else f"{key} names no class")
        for name in splits[split]:
            if name in used:
                raise UserError(f"{key}: class {name!r} is named twice; a class can be in one split only")
            used.add(name)
    return splits
