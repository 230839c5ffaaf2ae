"""A task of a user's own: what data sets that can prepare one share, and its support set as an episode's."""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaloop.data.distribution import Dataset
from metaloop.data.files.archives import Origin
from metaloop.data.pool import as_read
from metaloop.problems.classification import Classification
from metaloop.problems.problem import Problem
from metaloop.types import Examples, Inputs, map_inputs

_WHOLE = re.compile(r"([+-]?\d+)\.0+")
OWN = Origin("own", "", "Look at the file, and at text=, path= and label=, the names of its columns")


@dataclass(frozen=True)
class Columns:
    """What a user's files call their columns.

    Attributes:
        text: of texts.
        path: of pictures' files.
        label: of classes, or of the number that a regression predicts.
    """

    text: str = "text"
    path: str = "path"
    label: str = "label"


@dataclass(frozen=True)
class OwnRows:
    """The examples of one file (or folder), in its order.

    Attributes:
        path: of the file.
        digest: SHA-256 of its content, in hexadecimal.
        inputs: (rows, *stored), as the data set stores its own examples.
        labels: of each row; None where it says none.
        shown: what a person knows each row by: its text, the picture's name; for tables its line.
        same: what tells each row's example from others, in hexadecimal.
        features: of tables, the names of the columns.
    """

    path: Path
    digest: str
    inputs: Inputs
    labels: tuple[str | None, ...]
    shown: tuple[str, ...]
    same: tuple[str, ...]
    features: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Scale:
    """The unit of standardised targets: ``value * unit + mean`` is in the user's."""

    mean: float
    unit: float


class OwnTasks(Dataset):
    """A data set that prepares a user's own files as it prepares its own examples.

    Attributes:
        problem: of its tasks, known before anything is read.
    """

    problem: Problem

    @abstractmethod
    def read_own(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> OwnRows:
        """The examples of a user's file.

        Args:
            path: file, or folder of pictures.
            columns: the names of its columns.
            input_shape: of the examples that the model was made for.
            labelled: whether there must be labels, as in a support set.

        Raises:
            UserError: it is missing, broken or something else; names row or picture.
        """

    @abstractmethod
    def own_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, Scale | None]:
        """Support and query as a model gets them; of a regression also the unit of its targets.

        Args:
            support: (1, examples, *stored).
            targets: (1, examples) of a regression, in the user's unit; None for classes.
            mask: (1, examples) which support examples are real; None for all.
            query: (1, queries, *stored).
        """


class OwnExamples(OwnTasks):
    """Data sets of classes whose examples are prepared one by one, whatever the support set holds."""

    problem: Problem = Classification()

    def own_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, Scale | None]:
        """See :meth:`OwnTasks.own_inputs`."""
        return as_read(support), as_read(query), None


@dataclass(frozen=True)
class OwnTask:
    """A user's support set: plain tensors and names, from which an adapted model is made again.

    Attributes:
        inputs: (1, examples, *stored), of a classification class by class, each padded to the largest by its first example.
        y: (1, examples) class numbers, or a regression's targets in the user's unit.
        mask: (1, examples) which are real; None where all are.
        classes: their names in the order of their numbers; none for a regression.
        shots: real examples of each class, or in all.
        features: of tables, the names of the columns.
        known: of the examples, see :attr:`OwnRows.same`; a query that is one of them is known by it.
    """

    inputs: Inputs
    y: Tensor
    mask: Tensor | None
    classes: tuple[str, ...]
    shots: tuple[int, ...]
    features: tuple[str, ...] = ()
    known: frozenset[str] = field(default_factory=frozenset)

    @property
    def targets(self) -> Tensor | None:
        """(1, examples) of a regression, in the user's unit; None for classes."""
        return None if self.classes else self.y

    def label(self, given: str | None) -> str | None:
        """A query's label as the support set spells it; None where it has no such class, or it is no finite number."""
        if not self.classes:
            return given if abs(_number(given)) < float("inf") else None
        return given if given in self.classes else {_whole(name): name for name in self.classes}.get(_whole(given))

    @property
    def number(self) -> Tensor:
        """(1,) of which all that is drawn within the task is a function; the same always."""
        return torch.zeros(1, dtype=torch.int64)

    def tensors(self) -> dict[str, Any]:
        """Tensors and plain data, the inverse of :func:`from_tensors`."""
        plain = {"classes": list(self.classes), "shots": list(self.shots), "features": list(self.features)}
        return {"inputs": self.inputs, "y": self.y, "mask": self.mask, **plain, "known": sorted(self.known)}

    def support(self, x: Inputs, scale: Scale | None) -> Examples:
        """The support set with the inputs ``x`` (1, examples, *input) that a model gets."""
        y = self.y if scale is None else (self.y - scale.mean) / scale.unit
        return Examples(x, y if self.classes else y.float()[..., None], self.mask, len(self.classes), self.number)


def from_tensors(saved: dict[str, Any]) -> OwnTask:
    """The task of :meth:`OwnTask.tensors`."""
    names = {name: tuple(saved[name]) for name in ("classes", "shots", "features")}
    return OwnTask(saved["inputs"], saved["y"], saved["mask"], known=frozenset(saved["known"]), **names)


def own_task(rows: OwnRows, problem: Problem) -> OwnTask:
    """The support set of a user's file; classes are numbered by alphabet, 1 and 1.0 are one.

    Raises:
        UserError: a row has no label, there are fewer than two classes, a text or picture is of two, or a target is no number.
    """
    missing = [number for number, label in enumerate(rows.labels) if label is None]
    if missing:
        raise OWN.problem(rows.path, f"{rows.shown[missing[0]]!r} has no label, which a support set needs for every example")
    known = frozenset(rows.same)
    if not problem.has_classes:
        y = torch.tensor([numbers(rows)], dtype=torch.float64)
        inputs = map_inputs(lambda tensor: tensor[None], rows.inputs)
        return OwnTask(inputs, y, None, (), (len(rows),), rows.features, known)
    labels = _spelled_alike([str(label) for label in rows.labels])
    if not rows.features:  # two rows of a table may well have the same numbers
        _check_contradictions(rows, labels)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise OWN.problem(rows.path, f"{len(classes)} class ({', '.join(classes)}), where at least 2 are needed")
    members = [[row for row, label in enumerate(labels) if label == name] for name in classes]
    most = max(map(len, members))
    order = torch.tensor([[*each, *each[:1] * (most - len(each))] for each in members])
    mask = torch.tensor([[place < len(each) for place in range(most)] for each in members]).view(1, -1)
    y = torch.arange(len(classes)).repeat_interleave(most)[None]
    inputs = map_inputs(lambda tensor: tensor[order.view(1, -1)], rows.inputs)
    shots = tuple(map(len, members))
    return OwnTask(inputs, y, None if mask.all() else mask, tuple(classes), shots, rows.features, known)


def _whole(label: str | None) -> str | None:
    """A whole number's label without its decimals, which programs add where labels of other rows are missing."""
    found = label and _WHOLE.fullmatch(label)
    return found[1] if found else label


def _spelled_alike(labels: Sequence[str]) -> list[str]:
    """The labels, those that are the same whole number all in their shortest spelling."""
    shortest = {_whole(label): label for label in sorted(set(labels), key=len, reverse=True)}
    return [shortest[_whole(label)] for label in labels]


def numbers(rows: OwnRows) -> list[float]:
    """The labels as numbers, nan where there is none.

    Raises:
        UserError: one is no finite number.
    """
    found = []
    for label, shown in zip(rows.labels, rows.shown, strict=True):
        value = _number(label)
        if label is not None and not abs(value) < float("inf"):
            raise OWN.problem(rows.path, f"{shown}: the target {label!r} is no finite number, and the run is a regression")
        found.append(value)
    return found


def _number(text: str | None) -> float:
    try:
        return float("nan" if text is None else text)
    except ValueError:
        return float("nan")


def digests(stored: Tensor) -> tuple[str, ...]:
    """SHA-256 of each example (rows, *stored), in hexadecimal."""
    return tuple(hashlib.sha256(row.tobytes()).hexdigest() for row in stored.contiguous().numpy())


def _check_contradictions(rows: OwnRows, labels: Sequence[str]) -> None:
    """Raise a UserError where one example has two labels."""
    first: dict[str, str] = {}
    for same, label, shown in zip(rows.same, labels, rows.shown, strict=True):
        if first.setdefault(same, label) != label:
            raise OWN.problem(rows.path, f"{shown!r} is labelled {first[same]!r} and, again, {label!r}")
