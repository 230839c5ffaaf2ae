"""data.json of a run directory: classes of each split and a digest of its examples, as they were when the run started."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.typed_json import decode, read_object
from metaloop.records.writing import write_json

CONTENTS = "data.json"
ENVIRONMENT = "METALOOP_DATA_CHANGED"
ALLOW = "allow"
_WORD = "data_changed="
_NAMED = 3  # classes that a message names


@dataclass(frozen=True)
class SplitContents:
    """What a split of a data set holds.

    Attributes:
        classes: Number of examples of each class, in order.
        digest: Hash of classes and examples.
    """

    classes: Mapping[str, int]
    digest: str


def read_contents(directory: Path) -> dict[str, SplitContents]:
    """Read data.json, by split; empty if the run has not opened its data, or its data has no examples to list.

    Raises:
        UserError: the file is broken.
    """
    path = directory / CONTENTS
    if not path.exists():
        return {}
    return {split: decode(SplitContents, value, str(path), split) for split, value in read_object(path, "data summary").items()}


def write_contents(directory: Path, contents: Mapping[str, SplitContents]) -> None:
    """Write data.json."""
    write_json(directory / CONTENTS, {split: asdict(value) for split, value in contents.items()})


def difference(before: SplitContents, now: SplitContents) -> str | None:
    """Describe how a split has changed; None if it has not."""
    if before.digest == now.digest:
        return None
    new = [name for name in now.classes if name not in before.classes]
    gone = [name for name in before.classes if name not in now.classes]
    other = [
        f"{name} {before.classes[name]} -> {count}"
        for name, count in now.classes.items()
        if name in before.classes and count != before.classes[name]
    ]
    parts = [("new classes", new), ("classes that are gone", gone), ("other numbers of examples", other)]
    found = [f"{title}: {_some(names)}" for title, names in parts if names]
    return "; ".join(found) or (
        "the same classes with other examples (edited files, or another version of a library that decodes them)"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def changes_allowed() -> bool:
    """Whether the user allows that a data set has changed since a run was trained on it."""
    return os.environ.get(ENVIRONMENT) == ALLOW


@contextmanager
def allowing_changes(words: Sequence[str]) -> Iterator[list[str]]:
    """Allow changed data during the block if a word is ``data_changed=allow``, also in processes that it starts.

    Args:
        words: Words of a command.

    Returns:
        The other words.

    Raises:
        UserError: the word has another value.
    """
    values = [word.removeprefix(_WORD) for word in words if word.startswith(_WORD)]
    for value in values:
        if value != ALLOW:
            raise UserError(f"{_WORD}{value}: must be {ALLOW}; leave it out to refuse data that has changed")
    before = os.environ.get(ENVIRONMENT)
    if values:
        os.environ[ENVIRONMENT] = ALLOW
    try:
        yield [word for word in words if not word.startswith(_WORD)]
    finally:
        if values:
            os.environ.pop(ENVIRONMENT)
            os.environ.update({} if before is None else {ENVIRONMENT: before})
