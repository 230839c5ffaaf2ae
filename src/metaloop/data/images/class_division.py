"""Division of the classes of a user's images into splits: by shares, by lists of names, or by a file."""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.data.class_splits import SPLIT_NAMES, split_named
from metaloop.data.distribution import SPLITS
from metaloop.data.labels import plain_name
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

Share = float | Sequence[str]
Splits = dict[str, list[str]]  # the classes of each split


def divide(names: Sequence[str], shares: Mapping[str, Share], seed: int) -> Splits:
    """Divide classes by shares or by lists of names. Every split gets at least one class, and two if there are six or more.

    If the shares of train and validation are both 0, all classes are for testing, and the other splits have none.

    Raises:
        UserError: shares are neither three numbers nor three lists, or there are fewer than three classes.
    """
    if has_lists(shares):
        return {split: [plain_name(str(name)) for name in shares[split]] for split in SPLITS}  # type: ignore[union-attr]
    train, validation, test = _numbers(shares)
    if not train and not validation:
        return {"train": [], "validation": [], "test": sorted(names)}
    if len(names) < len(SPLITS):
        raise UserError(f"dataset.path: {len(names)} classes cannot be divided into {', '.join(SPLITS)}")
    order = sorted(names)
    random.Random(seed).shuffle(order)
    total = train + validation + test
    least = 2 if len(names) >= 2 * len(SPLITS) else 1
    first = min(max(round(train / total * len(order)), least), len(order) - 2 * least)
    second = min(max(round((train + validation) / total * len(order)), first + least), len(order) - least)
    parts = (order[:first], order[first:second], order[second:])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def take_validation(names: Sequence[str], shares: Mapping[str, Share], seed: int) -> tuple[list[str], list[str]]:
    """Divide the classes of meta-training into those of meta-training and meta-validation, in proportion to their shares.

    Raises:
        UserError: there are fewer than two classes, or shares are no numbers.
    """
    train, validation, _ = _numbers(shares)
    if not train and not validation:
        return list(names), []
    if len(names) < 2:
        raise UserError(f"dataset.path: no folder for validation, and {len(names)} class of train cannot be divided")
    order = sorted(names)
    random.Random(seed).shuffle(order)
    first = min(max(round(train / (train + validation) * len(order)), 1), len(order) - 1)
    return sorted(order[:first]), sorted(order[first:])


def has_lists(shares: Mapping[str, Share]) -> bool:
    """Whether ``dataset.classes`` has a list of names for each split.

    Raises:
        UserError: its keys are not the splits.
    """
    if set(shares) != set(SPLITS):
        raise UserError(f"dataset.classes has the keys {', '.join(shares) or 'none'}; it needs {', '.join(SPLITS)}")
    return all(isinstance(share, Sequence) and not isinstance(share, str) for share in shares.values())


def _numbers(shares: Mapping[str, Share]) -> tuple[float, float, float]:
    """The shares of train, validation and test."""
    values = [shares[split] for split in SPLITS]
    numbers = [float(share) for share in values if isinstance(share, int | float) and not isinstance(share, bool)]
    only_test = len(numbers) == len(SPLITS) and not any(numbers[:2]) and numbers[2] > 0
    if not only_test and (len(numbers) < len(SPLITS) or min(numbers) <= 0):
        raise UserError(f"dataset.classes={dict(shares)} must be three shares above 0, or three lists of names")
    return numbers[0], numbers[1], numbers[2]


def read_split_file(path: Path) -> Splits:
    """Read the classes of each split, in the order of the file.

    Raises:
        UserError: the file cannot be read, lacks a column, or names an unknown split.
    """
    splits: Splits = {split: [] for split in SPLITS}
    if path.exists() and not path.is_file():
        raise UserError(f"dataset.split_file={path} is no file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if rows.fieldnames is None or not {"class", "split"} <= set(rows.fieldnames):
                raise UserError(f"dataset.split_file={path}: its first line must name the columns class and split")
            for row in rows:
                split = split_named(row["split"])
                if split is None or not row["class"]:
                    fault = f"{row['split']!r} must be one of {', '.join(SPLIT_NAMES)}" if split is None else "no class"
                    raise UserError(f"dataset.split_file={path}, line {rows.line_num}: {fault}")
                splits[split].append(plain_name(row["class"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"dataset.split_file={path} cannot be read: {error}") from error
    return splits


def check_division(splits: Mapping[str, Sequence[str]], classes: Mapping[str, object], key: str) -> None:
    """Raise a UserError if a split is empty, or if a class is missing or named twice. All classes may be for testing."""
    used: set[str] = set()
    for split in SPLITS:
        if not splits[split] and (split == "test" or any(splits[other] for other in ("train", "validation"))):
            raise UserError(f"{key}: no classes for {split}")
        for name in splits[split]:
            if name not in classes:
                hint = did_you_mean(name, classes)
                raise UserError(f"{key}: there is no class {name!r}; {hint}the classes are {first_names(list(classes))}")
            if name in used:
                raise UserError(f"{key}: class {name!r} is named twice")
            used.add(name)


def first_names(names: Sequence[str]) -> str:
    """The first ten names, and the number of the others."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
