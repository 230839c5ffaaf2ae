"""Tables for tabular episodes: those of scikit-learn, the UCI regressions and ADBench's tables from local files."""

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from metaloop.data.user.numerals import LARGEST
from metaloop.errors import UserError

# Tables of scikit-learn by name: the loader, and whether the target is a class.
SCIKIT_LEARN = {
    "iris": ("load_iris", True),
    "wine": ("load_wine", True),
    "breast_cancer": ("load_breast_cancer", True),
    "digits": ("load_digits", True),
    "diabetes": ("load_diabetes", False),
}
UCI = (
    "bostonHousing",
    "concrete",
    "energy",
    "kin8nm",
    "naval-propulsion-plant",
    "power-plant",
    "protein-tertiary-structure",
    "wine-quality-red",
    "yacht",
)
ARCHIVE = "uci_regression.zip"
ADBENCH = "adbench:"  # before the name of a table of ADBench, such as adbench:Pima
ADBENCH_FOLDER = "adbench_classical"


@dataclass(frozen=True)
class DataTable:
    """One table.

    Attributes:
        name: name of the table.
        x: (rows, features) float64, with nan for missing values.
        y: (rows,) class numbers, or targets in their own unit.
        classes: number of classes; None for a regression.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    classes: int | None


def read_table(name: str, data_dir: str) -> DataTable:
    """Read a table by name.

    Args:
        name: one of :data:`SCIKIT_LEARN` or :data:`UCI`, or ``adbench:NAME``.
        data_dir: folder with the archive of the UCI tables and the folder of ADBench's.

    Raises:
        UserError: the name is unknown, scikit-learn is not installed, or the archive is missing or broken.
    """
    if name in SCIKIT_LEARN:
        return _read_scikit_learn(name)
    if name in UCI:
        return _read_uci(name, Path(data_dir) / ARCHIVE)
    if name.startswith(ADBENCH):
        return _read_adbench(name, Path(data_dir) / ADBENCH_FOLDER)
    raise UserError(
        f"dataset.tables: {name!r} must be one of {', '.join([*SCIKIT_LEARN, *UCI])}, {ADBENCH}NAME, or your own .csv, .tsv "
        f"or .json"
    )


def _read_scikit_learn(name: str) -> DataTable:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise UserError(
            f"dataset.tables: {name} is part of scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    loader, has_classes = SCIKIT_LEARN[name]
    table = getattr(sklearn.datasets, loader)()
    return DataTable(name, table.data.astype(np.float64), table.target, len(table.target_names) if has_classes else None)


def _read_uci(name: str, path: Path) -> DataTable:
    if not path.is_file():
        raise UserError(
            f"dataset.tables: the archive {path} of table {name} does not exist. There is no download command: put the UCI "
            f"regressions there (<name>__data.txt, <name>__index_target.txt, <name>__index_features.txt; the archive's notice "
            f"is the licence), or set dataset.data_dir"
        )
    try:
        with ZipFile(path) as archive:
            values = np.loadtxt(io.BytesIO(archive.read(f"{name}__data.txt")))
            target = int(archive.read(f"{name}__index_target.txt"))
            features = np.loadtxt(io.BytesIO(archive.read(f"{name}__index_features.txt")), dtype=np.int64, ndmin=1)
            table = DataTable(name, values[:, features], values[:, target], None)
    except (BadZipFile, KeyError, ValueError, IndexError, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path} is broken or has no table {name}: {error}") from error
    _check_finite(table, path)
    return table


def _read_adbench(name: str, folder: Path) -> DataTable:
    """Read a table of ADBench (Han et al. 2022), NUMBER_NAME.npz with ``X`` and ``y``; class 1 is an anomaly."""
    files = {path.stem.split("_", 1)[-1]: path for path in sorted(folder.glob("*.npz"))}
    path = files.get(name.removeprefix(ADBENCH))
    if path is None:
        there = (
            f"it has {', '.join(files)}" if files else "put ADBench's folder Classical there (BSD-2), or set dataset.data_dir"
        )
        raise UserError(f"dataset.tables: no table {name.removeprefix(ADBENCH)!r} in {folder}: {there}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["X"].astype(np.float64), arrays["y"].astype(np.int64)
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise UserError(f"{path} is broken: {error}") from error
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.isin(y, (0, 1)).all():
        raise UserError(f"{path}: X {x.shape} and y {y.shape} are no table with classes 0 and 1")
    return DataTable(name, x, y, 2)


def _check_finite(table: DataTable, path: Path) -> None:
    """Raise a UserError if a target is no number up to ``LARGEST``, or a feature is beyond it; a missing feature is nan."""
    targets, features = ~(np.abs(table.y) <= LARGEST), np.abs(table.x) > LARGEST
    for faults, what in ((targets, "target"), (features.any(1), "feature")):
        if faults.any():
            row = int(faults.argmax())
            value = table.y[row] if what == "target" else table.x[row][features[row]][0]
            remedy = "remove the row" if what == "target" else "remove the row, or write nan for a missing value"
            raise UserError(
                f"{path}, {table.name}__data.txt, row {row + 1}: the {what} {value} is no finite number up to {LARGEST:g} "
                f"({int(faults.sum())} such rows); {remedy}"
            )
