"""Tasks from a user's own files: the interface of data sets that read such files, and the support set as an episode."""

import hashlib
import logging
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaloop.data.distribution import Dataset
from metaloop.data.files.archives import Origin
from metaloop.data.labels import plain_label, tell_alike
from metaloop.data.pool import as_read
from metaloop.data.user.encoding import TableColumn, as_plain, from_plain
from metaloop.data.user.numerals import EXPECTED, finite_number
from metaloop.problems.classification import Classification
from metaloop.problems.problem import Problem
from metaloop.types import Examples, Inputs, map_inputs

log = logging.getLogger(__name__)

USER_FILES = Origin("own", "", "Check the file, and the names of its columns in text=, path= and label=")


@dataclass(frozen=True)
class Columns:
    """Names of the columns in a user's files.

    Attributes:
        text: column of the texts.
        path: column of the paths of image files.
        label: column of the class, or of the number that a regression predicts.
        ignore: columns of a table that are no features.
        categories: columns of a table whose values are categories, whatever they look like.
        encoding: how the columns of a table are encoded; None to tell by what they hold, as for a support set.
        prefix: what precedes the names of these keys in messages about tables: "dataset." if they are keys of a run's config.
    """

    text: str = "text"
    path: str = "path"
    label: str = "label"
    ignore: Sequence[str] = ()
    categories: Sequence[str] = ()
    encoding: tuple[TableColumn, ...] | None = None
    prefix: str = ""


@dataclass(frozen=True)
class UserRows:
    """The examples of one file or folder, in its order.

    Attributes:
        path: path of the file or folder.
        digest: SHA-256 of the content, in hexadecimal.
        inputs: (rows, *stored), in the form in which the data set stores its own examples.
        labels: label of each row in its one spelling (:func:`metaloop.data.labels.plain_label`); None if it has none.
        captions: text that identifies each row to a person: the text itself, the name of the image, or the line of a table.
        hashes: SHA-256 of each row's example, in hexadecimal; equal examples have equal hashes.
        features: names of the numbers of a table; empty for other data.
        encoding: how a table's columns became these numbers; empty for other data.
        cut: number of texts with more tokens than ``dataset.length``.
    """

    path: Path
    digest: str
    inputs: Inputs
    labels: tuple[str | None, ...]
    captions: tuple[str, ...]
    hashes: tuple[str, ...]
    features: tuple[str, ...] = ()
    cut: int = 0
    encoding: tuple[TableColumn, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def ordered(self, order: Sequence[int]) -> "UserRows":
        """The same rows in another order."""
        rows = torch.tensor(order, dtype=torch.int64)
        return replace(
            self,
            inputs=map_inputs(lambda tensor: tensor[rows], self.inputs),
            labels=tuple(self.labels[row] for row in order),
            captions=tuple(self.captions[row] for row in order),
            hashes=tuple(self.hashes[row] for row in order),
        )


@dataclass(frozen=True)
class TargetScale:
    """Scale of standardised targets: ``value * unit + mean`` is in the user's unit.

    Attributes:
        mean: see above.
        unit: see above.
        bounds: lowest and highest possible value in the user's unit, to which predictions are cut.
    """

    mean: float
    unit: float
    bounds: tuple[float, float] = (-math.inf, math.inf)


class UserFileDataset(Dataset):
    """A data set that also prepares a user's files, in the same way as its own examples.

    Attributes:
        problem: problem of the tasks, known before any file is read.
    """

    problem: Problem

    @abstractmethod
    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """Read the examples of a user's file.

        Args:
            path: a file, or a folder of images.
            columns: names of the file's columns.
            input_shape: shape of the examples that the model was built for.
            labelled: whether labels are required, as in a support set.

        Raises:
            UserError: the file is missing, broken or of another kind. The message names the row or image.
        """

    @abstractmethod
    def user_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, TargetScale | None]:
        """Convert stored examples to the inputs of a model.

        Args:
            support: (1, examples, *stored).
            targets: (1, examples) targets of a regression, in the user's unit; None for a classification.
            mask: (1, examples) bool, True for real support examples; None if all are real.
            query: (1, queries, *stored).

        Returns:
            The inputs of support and query, and the scale of the targets of a regression (None for a classification).
        """

    def unseen(self, task: "UserTask") -> UserRows | None:
        """All examples of the data set itself that are not in a user's support set, to be ranked; None if there are none."""
        return None

    def catalogue(self) -> str | None:
        """Digest of what a user's files refer to by name; None if they refer to nothing."""
        return None


class UserExampleDataset(UserFileDataset):
    """A classification data set that prepares each example by itself, without regard to the support set."""

    problem: Problem = Classification()

    def user_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, TargetScale | None]:
        """See :meth:`UserFileDataset.user_inputs`."""
        return as_read(support), as_read(query), None


@dataclass(frozen=True)
class UserTask:
    """A user's support set as plain tensors and names. An adapted model is rebuilt from it.

    Attributes:
        inputs: (1, examples, *stored). In a classification the examples are sorted by class, and each class is padded to the
            size of the largest with its first example.
        y: (1, examples) class numbers, or the targets of a regression in the user's unit.
        mask: (1, examples) bool, True for real examples; None if all are real.
        classes: names of the classes in the order of their numbers; empty for a regression.
        shots: number of real examples of each class; of all examples for a regression.
        features: names of the numbers of a table; empty for other data.
        encoding: how a table's columns became these numbers; empty for other data.
        known: hashes of the examples (:attr:`UserRows.hashes`), which show whether a query is also a support example.
    """

    inputs: Inputs
    y: Tensor
    mask: Tensor | None
    classes: tuple[str, ...]
    shots: tuple[int, ...]
    features: tuple[str, ...] = ()
    known: frozenset[str] = field(default_factory=frozenset)
    encoding: tuple[TableColumn, ...] = ()

    @property
    def targets(self) -> Tensor | None:
        """Targets (1, examples) of a regression, in the user's unit; None for a classification."""
        return None if self.classes else self.y

    def label(self, label: str | None) -> str | None:
        """A query's label in the spelling of the support set; None if it is an unknown class or not a finite number."""
        if not self.classes:
            return None if finite_number(label) is None else label
        return {plain_label(name): name for name in self.classes}.get(plain_label(label))

    @property
    def number(self) -> Tensor:
        """Seed (1,) of all randomness inside the task; always the same."""
        return torch.zeros(1, dtype=torch.int64)

    def tensors(self) -> dict[str, Any]:
        """The task as tensors and plain data, which :func:`from_tensors` reads."""
        plain = {"classes": list(self.classes), "shots": list(self.shots), "features": list(self.features)}
        more = {"known": sorted(self.known), "encoding": as_plain(self.encoding)}
        return {"inputs": self.inputs, "y": self.y, "mask": self.mask, **plain, **more}

    def support(self, x: Inputs, scale: TargetScale | None) -> Examples:
        """The support set as a model reads it, with the prepared inputs ``x`` (1, examples, *input)."""
        y = self.y if scale is None else (self.y - scale.mean) / scale.unit
        return Examples(x, y if self.classes else y.float()[..., None], self.mask, len(self.classes), self.number)


def from_tensors(saved: dict[str, Any]) -> UserTask:
    """Rebuild a task from :meth:`UserTask.tensors`."""
    names = {name: tuple(saved[name]) for name in ("classes", "shots", "features")}
    # Models that were kept before columns had kinds have columns of numbers.
    encoding = from_plain(saved["encoding"]) if "encoding" in saved else tuple(map(TableColumn, names["features"]))
    return UserTask(saved["inputs"], saved["y"], saved["mask"], known=frozenset(saved["known"]), encoding=encoding, **names)


def user_task(rows: UserRows, problem: Problem) -> UserTask:
    """Build the support set of a user's file.

    Classes are numbered in alphabetical order.

    Raises:
        UserError: a row has no label, there are fewer than two classes, a text or image has two labels, a target is not a
            number, or a table has no value at all.
    """
    missing = [number for number, label in enumerate(rows.labels) if label is None]
    if missing:
        raise USER_FILES.problem(rows.path, f"{rows.captions[missing[0]]!r} has no label; every support example needs one")
    known = frozenset(rows.hashes)
    if not problem.has_classes:
        y = torch.tensor([numbers(rows)], dtype=torch.float64)
        _check_features(rows)
        inputs = map_inputs(lambda tensor: tensor[None], rows.inputs)
        return UserTask(inputs, y, None, (), (len(rows),), rows.features, known, rows.encoding)
    labels = [str(plain_label(label)) for label in rows.labels]
    if repeated := len(rows) - len(set(zip(rows.hashes, labels, strict=True))):
        log.warning("%s: %s of %s examples repeat another of their class", rows.path, repeated, len(rows))
    tell_alike(labels, rows.path.name)
    if not rows.features:  # two rows of a table may well have the same numbers
        _check_contradictions(rows, labels)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise USER_FILES.problem(rows.path, f"{len(classes)} class ({', '.join(classes)}), at least 2 are needed")
    _check_features(rows)
    members = [[row for row, label in enumerate(labels) if label == name] for name in classes]
    most = max(map(len, members))
    order = torch.tensor([[*each, *each[:1] * (most - len(each))] for each in members])
    mask = torch.tensor([[place < len(each) for place in range(most)] for each in members]).view(1, -1)
    y = torch.arange(len(classes)).repeat_interleave(most)[None]
    inputs = map_inputs(lambda tensor: tensor[order.view(1, -1)], rows.inputs)
    shots = tuple(map(len, members))
    return UserTask(inputs, y, None if mask.all() else mask, tuple(classes), shots, rows.features, known, rows.encoding)


def _check_features(rows: UserRows) -> None:
    """Refuse a table without any value; warn if all of its rows have the same ones."""
    if not rows.features:
        return
    if isinstance(rows.inputs, Tensor) and bool(rows.inputs.isnan().all()):
        raise USER_FILES.problem(rows.path, f"all values of its {len(rows.features)} columns are missing")
    if len(rows) > 1 and len(set(rows.hashes)) == 1:
        log.warning("%s: all rows have the same features, so nothing tells them apart", rows.path)


def numbers(rows: UserRows) -> list[float]:
    """Convert the labels to numbers; nan for a row without a label.

    Raises:
        UserError: a label is not a finite number.
    """
    result = []
    for label, caption in zip(rows.labels, rows.captions, strict=True):
        value = float("nan") if label is None else finite_number(label)
        if value is None:
            raise USER_FILES.problem(rows.path, f"{caption}: the target of a regression must be {EXPECTED}, not {label!r}")
        result.append(value)
    return result


def example_hashes(stored: Tensor) -> tuple[str, ...]:
    """SHA-256 of each example (rows, *stored), in hexadecimal."""
    return tuple(hashlib.sha256(row.tobytes()).hexdigest() for row in stored.contiguous().numpy())


def _check_contradictions(rows: UserRows, labels: Sequence[str]) -> None:
    """Raise a UserError if one example has two labels."""
    first: dict[str, str] = {}
    for digest, label, caption in zip(rows.hashes, labels, rows.captions, strict=True):
        if first.setdefault(digest, label) != label:
            raise USER_FILES.problem(rows.path, f"{caption!r} has two labels, {first[digest]!r} and {label!r}")
