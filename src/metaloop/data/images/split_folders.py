"""Split and class of images by their folders: shared data sets come as Training/CLASS and Testing/CLASS, or CLASS/train."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from metaloop.data.distribution import SPLITS
from metaloop.data.labels import plain_name
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

Parts = tuple[str, ...]  # names of the folders above an image
Rule = str | Mapping[str, str | Sequence[str]]

RULES = ("auto", "merge", "none")
_WORDS = {
    "train": "train|training|trainval",
    "validation": "val|valid|validation|validate|dev|devel|development",
    "test": "tests?|testing|eval|evaluation|holdout",
}
_FILLER = r"(?:(?:data)?sets?|data|images?|imgs?|pictures?|pics?|photos?|splits?|samples?|examples?|files?|folders?|meta|the)*"
_SPLIT_NAME = re.compile(_FILLER + "(?:" + "|".join(f"(?P<{split}>{words})" for split, words in _WORDS.items()) + ")" + _FILLER)
_WORD = re.compile(r"[^\W\d_]+")
_REMEDY = (
    "dataset.split_folders={train: FOLDER, validation: FOLDER, test: FOLDER} says which folder is which split, merge divides "
    "all classes anew, none takes every folder as a class"
)


class Place(NamedTuple):
    """Split and class of an image; ``split`` is None if no folder names one."""

    split: str | None
    label: str


def check_rule(rule: Rule) -> None:
    """Raise a UserError if ``dataset.split_folders`` has a value that is not allowed."""
    if isinstance(rule, str):
        if rule not in RULES:
            raise UserError(f"dataset.split_folders={rule}: {did_you_mean(rule, RULES)}must be one of {', '.join(RULES)}")
        return
    names = [name for listed in rule.values() for name in _listed(listed)] if isinstance(rule, Mapping) else []
    if not names or not set(rule) <= set(SPLITS) or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"dataset.split_folders={rule!r} must be one of {', '.join(RULES)}, or name a folder (or a list) for each of "
            f"{', '.join(SPLITS)}, such as {{train: Training, test: Testing}}"
        )
    if len(set(names)) < len(names):
        raise UserError(f"dataset.split_folders={dict(rule)} names a folder twice")


def places(names: Sequence[str], rule: Rule, problem: Callable[[str], UserError]) -> list[Place]:
    """Find the split and the class of every image. The class is its folder, without folders of splits and shared leading ones.

    Under "auto" and "merge" the folders beside each other name splits if all of their names do, whatever their case, and with
    words such as "set" or "images" around them. A word that all of them share does not count (seg_train, seg_test).

    Args:
        names: relative paths of the images, ``/`` between folders.
        rule: "auto", "merge" (read as "auto"), "none" for no folders of splits, or folders by split.
        problem: makes the error from a sentence.

    Raises:
        UserError: some images are in folders of splits and some are not.
    """
    paths = [name.rpartition("/")[0] for name in names]
    parts_of = {path: _parts(PurePosixPath(path)) for path in set(paths)}
    folders = [parts_of[path] for path in paths]
    if rule == "none":
        found: list[tuple[str | None, Parts]] = [(None, parts) for parts in folders]
    elif isinstance(rule, str):
        found = _recognized(folders, problem)
    else:
        found = [_named(parts, rule) for parts in folders]
    depths = _shared_depths(set(found))
    return [Place(split if rule != "merge" else None, "/".join(parts[depths[split] :])) for split, parts in found]


def check_classes(result: Mapping[str, Place], problem: Callable[[str], UserError]) -> None:
    """Raise a UserError if an image is in no folder of a class, but beside such folders or directly in one of a split."""
    direct = next((name for name, place in result.items() if place.split and not place.label), None)
    if direct is not None:
        raise problem(
            f"{direct}: the folders of splits hold images, not folders of classes. Name the one that has classes, to use it "
            f"alone; or {_REMEDY}"
        )
    parents = {str(parent) for label in {place.label for place in result.values()} for parent in PurePosixPath(label).parents}
    stray = next((name for name, place in result.items() if (place.label or ".") in parents), None)
    if stray is not None:
        raise problem(f"{stray} is beside the folders of classes and belongs to no class")


def check_one_split(result: Iterable[Place], problem: Callable[[str], UserError], merge: str) -> None:
    """Raise a UserError if a class is in two splits; ``merge`` is the remedy. ``a/b`` and ``b`` count as one class."""
    split_of: dict[str, str | None] = {}
    for split, label in dict.fromkeys(result):
        if split_of.setdefault(label, split) != split:
            both = sorted({split_of[label] or "no split", split or "no split"})
            raise problem(
                f"class {label!r} is in the folders of {' and '.join(both)}; a class can be in one split only. {merge}"
            )
    for label, split in split_of.items():
        for tail in ("/".join(label.split("/")[start:]) for start in range(1, label.count("/") + 1)):
            if split_of.get(tail, split) != split:
                raise problem(
                    f"classes {label!r} of {split} and {tail!r} of {split_of[tail]} look like one; rename a folder. {_REMEDY}"
                )


def _parts(folder: PurePosixPath) -> Parts:
    return tuple(map(plain_name, folder.parts))


def _listed(names: Any) -> list[str]:
    """The names of a split's folders; a folder may be called 1."""
    return [str(name) if type(name) is int else name for name in (names if isinstance(names, list | tuple) else [names])]


def _named(parts: Parts, rule: Mapping[str, str | Sequence[str]]) -> tuple[str | None, Parts]:
    """The split and the other folders of an image, by the outermost folder that ``rule`` names."""
    for start in range(len(parts)):
        for split, names in rule.items():
            for folder in (_parts(PurePosixPath(name)) for name in _listed(names)):
                if parts[start : start + len(folder)] == folder:
                    return split, parts[:start] + parts[start + len(folder) :]
    return None, parts


def _recognized(folders: Sequence[Parts], problem: Callable[[str], UserError]) -> list[tuple[str | None, Parts]]:
    children: dict[Parts, set[str]] = defaultdict(set)
    for parts in set(folders):
        for depth in range(len(parts)):
            children[parts[:depth]].add(parts[depth])
    meaning: dict[Parts, dict[str, str]] = {}
    for parent, names in children.items():
        splits = _meanings(names)
        meaning[parent] = splits if len(splits) == len(names) else {}
        with_folders = [name for name in sorted(splits) if (*parent, name) in children]  # a class has images only
        if with_folders and not meaning[parent]:
            folder, other = "/".join((*parent, with_folders[0])), min(names - set(splits))
            raise problem(f"folder {folder} looks like a split, but {other} beside it does not. {_REMEDY}")
    found = {parts: _split_of(parts, meaning, problem) for parts in set(folders)}
    without = sorted(parts for parts, (split, _) in found.items() if split is None)
    within = sorted(parts for parts, (split, _) in found.items() if split is not None)
    if without and within:
        if any(parts in children or len(children[parts[:-1]]) > 1 for parts in within):
            raise problem(f"folder {'/'.join(within[0])} is in a split, but {'/'.join(without[0]) or '.'} is not. {_REMEDY}")
        return [(None, parts) for parts in folders]  # a class that has the name of a split
    return [found[parts] for parts in folders]


def _meanings(names: set[str]) -> dict[str, str]:
    """The split that each of these folders beside each other means; folders that mean none are left out."""
    words = {name: _WORD.findall(name.casefold()) for name in names}
    shared = set.intersection(*map(set, words.values())) if len(names) > 1 else set()
    shared = {word for word in shared if not _SPLIT_NAME.fullmatch(word)}
    matches = {name: _SPLIT_NAME.fullmatch("".join(word for word in words[name] if word not in shared)) for name in names}
    return {name: str(match.lastgroup) for name, match in matches.items() if match}


def _split_of(
    parts: Parts, meaning: Mapping[Parts, Mapping[str, str]], problem: Callable[[str], UserError]
) -> tuple[str | None, Parts]:
    """The split and the other folders of an image. A class in a folder of a split may have the name of a split."""
    split, rest = None, []
    for depth, name in enumerate(parts):
        own = meaning[parts[:depth]].get(name)
        last = depth == len(parts) - 1
        if own is None or (last and split is not None):
            rest.append(name)
        elif split not in (None, own):
            raise problem(f"folder {'/'.join(parts)} is in {split} and in {own}. {_REMEDY}")
        else:
            split = own
    return split, tuple(rest)


def _shared_depths(found: set[tuple[str | None, Parts]]) -> dict[str | None, int]:
    """The number of leading folders of each split that all its images share and that are no part of a class's name."""
    groups: dict[str | None, set[Parts]] = defaultdict(set)
    for split, parts in found:
        groups[split].add(parts)
    outside = groups.pop(None) if len(groups) > 1 and None in groups else None
    depths = dict.fromkeys(groups, 0)
    while all(_is_shared(group, depths[split]) for split, group in groups.items()):
        depths = {split: depth + 1 for split, depth in depths.items()}
    for split, group in groups.items() if None not in groups else ():
        while _is_shared(group, depths[split]) and _is_filler(min(group)[depths[split]]):  # Training/images beside Testing
            depths[split] += 1
    return depths if outside is None else depths | {None: 0}


def _is_shared(group: set[Parts], depth: int) -> bool:
    return all(len(parts) > depth + 1 for parts in group) and len({parts[depth] for parts in group}) == 1


def _is_filler(name: str) -> bool:
    return re.fullmatch(_FILLER, "".join(_WORD.findall(name.casefold()))) is not None
