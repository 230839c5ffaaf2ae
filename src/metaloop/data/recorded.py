"""A data set that must be what a run recorded: a later evaluation must not test classes that the run was trained on."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metaloop.data.copies import Copies
from metaloop.data.distribution import SPLITS, Dataset, TaskDistribution, check_split
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.records.contents import CONTENTS, SplitContents, changes_allowed, difference, write_contents
from metaloop.records.schema import ExampleCounts
from metaloop.types import Inputs, map_inputs

log = logging.getLogger(__name__)


def keep_contents(directory: Path, dataset: Dataset) -> None:
    """Write data.json at a run's first start: what its splits hold, if they have examples to list."""
    if (directory / CONTENTS).exists():
        return
    found = {split: dataset.contents(split) for split in SPLITS}
    write_contents(directory, {split: contents for split, contents in found.items() if contents is not None})


class RecordedDataset(Dataset):
    """A data set whose splits are compared with those of an earlier start of the same run when they are opened.

    If they differ, that is an error, unless the user allows it (``data_changed=allow``). Then every class is in the split in
    which it was recorded, new classes are in none, and what is gone is gone.

    Args:
        dataset: The data set as it is now.
        recorded: The splits as they were recorded; a split that is missing here is taken as it is.
    """

    def __init__(self, dataset: Dataset, recorded: Mapping[str, SplitContents]) -> None:
        self.dataset, self._recorded = dataset, recorded
        self._splits: dict[str, TaskDistribution] = {}

    @property
    def encoded_by(self) -> Mapping[str, Any] | None:
        """See :attr:`Dataset.encoded_by`."""
        return self.dataset.encoded_by

    def counts(self) -> Mapping[str, ExampleCounts]:
        """See :meth:`Dataset.counts`."""
        return self.dataset.counts()

    def contents(self, name: str) -> SplitContents | None:
        """See :meth:`Dataset.contents`."""
        return self.dataset.contents(name)

    def split(self, name: str) -> TaskDistribution:
        """See :meth:`Dataset.split`.

        Raises:
            UserError: the data has changed.
        """
        check_split(name)
        if name not in self._splits:
            self._splits[name] = self._checked(name)
        return self._splits[name]

    def _checked(self, name: str) -> TaskDistribution:
        before = self._recorded.get(name)
        now = None if before is None else self.dataset.contents(name)  # hashes all examples
        changed = None if before is None or now is None else difference(before, now)
        if before is None or changed is None:
            return self.dataset.split(name)
        message = f"the data set has changed since this run started; its {name} split has {changed}"
        if not changes_allowed():
            raise UserError(
                f"{message}. Restore the files, or add data_changed=allow: every class then stays in the split in which the "
                f"run had it, and new classes are left out"
            )
        log.warning("%s; it goes on with the split that was recorded", message)
        return self._as_recorded(name, before)

    def _as_recorded(self, name: str, before: SplitContents) -> ClassPool:
        """Put together the recorded classes of a split from wherever they are now."""
        pools = {split: self.dataset.split(split) for split in SPLITS}
        rows: dict[str, Inputs] = {}
        for pool in pools.values():
            if type(pool) is not ClassPool or pool.groups:
                raise UserError(
                    "data_changed=allow: only a data set of classes without groups can be split as it was recorded; restore "
                    "the files"
                )
            start = 0
            for label, size in zip(pool.names, pool.class_sizes, strict=True):
                rows[label] = map_inputs(lambda tensor, a=start, b=start + size: tensor[a:b], pool.inputs)  # type: ignore[misc]
                start += size
        names = [label for label in before.classes if label in rows]
        if not names:
            raise UserError(f"data_changed=allow: none of the recorded classes of the {name} split is left")
        kept = pools[name]
        assert isinstance(kept, ClassPool)
        parts = [rows[label] for label in names]
        inputs = _concatenated(parts)
        sizes = [len(_first(part)) for part in parts]
        apart = any(isinstance(pool, ClassPool) and pool.copies is not None for pool in pools.values())
        copies = Copies.of([_rows(part) for part in parts]) if apart else None
        return ClassPool(
            inputs, sizes, names, rotations=kept.rotations, split=name, augmentation=kept.augmentation, copies=copies
        )


def _first(inputs: Inputs) -> torch.Tensor:
    return inputs if isinstance(inputs, torch.Tensor) else next(iter(inputs.values()))


def _rows(inputs: Inputs) -> list[bytes]:
    """The examples as bytes, which are equal for equal examples."""
    return [row.tobytes() for row in _first(inputs).cpu().numpy()]


def _concatenated(parts: list[Inputs]) -> Inputs:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
    return {name: torch.cat([part[name] for part in parts if not isinstance(part, torch.Tensor)]) for name in parts[0]}
