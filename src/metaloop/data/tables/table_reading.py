"""Tables for tabular episodes: those that scientific packages ship, and the UCI regressions from a local archive."""

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from metaloop.errors import UserError

# By name: scikit-learn's loader, and whether its target is a class.
SHIPPED = {
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


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of the table.
        x: (rows, features) float64, nan where a value is missing.
        y: (rows,): class numbers, or the target in its own unit.
        classes: how many classes, or None for a regression.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    classes: int | None


def read_table(name: str, data_dir: str) -> Table:
    """A table by name.

    Args:
        name: one of :data:`SHIPPED` or :data:`UCI`.
        data_dir: the folder with the archive of the UCI tables.

    Raises:
        UserError: there is no such table, its package is not installed, or its file is missing or broken.
    """
    if name in SHIPPED:
        return _shipped(name)
    if name in UCI:
        return _uci(name, Path(data_dir) / ARCHIVE)
    raise UserError(f"dataset.tables: no table {name!r}; one of {', '.join([*SHIPPED, *UCI])}")


def _shipped(name: str) -> Table:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise UserError(
            f"the table {name} is part of scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    loader, classifies = SHIPPED[name]
    found = getattr(sklearn.datasets, loader)()
    return Table(name, found.data.astype(np.float64), found.target, len(found.target_names) if classifies else None)


def _uci(name: str, path: Path) -> Table:
    if not path.is_file():
        raise UserError(
            f"dataset.tables: the table {name} is in {path}, which does not exist; put the UCI regressions there "
            f"(<name>__data.txt, <name>__index_target.txt; its own notice is the licence) or set dataset.data_dir"
        )
    try:
        with ZipFile(path) as archive:
            values = np.loadtxt(io.BytesIO(archive.read(f"{name}__data.txt")))
            target = int(archive.read(f"{name}__index_target.txt"))
            features = np.loadtxt(io.BytesIO(archive.read(f"{name}__index_features.txt")), dtype=np.int64, ndmin=1)
    except (BadZipFile, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is broken or has no table {name}: {error}") from error
    return Table(name, values[:, features], values[:, target], None)
