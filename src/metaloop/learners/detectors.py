"""Anomaly detectors for :class:`metaloop.learners.estimator.Estimator` that scikit-learn lacks, and access to those of PyOD."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean


class NearestNeighbourDistance:
    """Distance to the k-th nearest inlier (Ramaswamy et al. 2000).

    Args:
        neighbours: k; with fewer inliers, their number.
    """

    def __init__(self, neighbours: int) -> None:
        if neighbours < 1:
            raise UserError(f"algorithm.estimator.neighbours={neighbours}: at least 1")
        self.neighbours = neighbours

    def fit(self, x: np.ndarray) -> None:
        """Keep the inliers (rows, features)."""
        from sklearn.neighbors import NearestNeighbors

        self._index = NearestNeighbors(n_neighbors=min(self.neighbours, len(x))).fit(x)

    def score_samples(self, x: np.ndarray) -> np.ndarray:
        """Minus the distances (rows,), so that anomalies are low as in scikit-learn."""
        distances: np.ndarray = self._index.kneighbors(x)[0][:, -1]
        return -distances

    def get_params(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"neighbours": self.neighbours}

    def set_params(self, neighbours: int) -> None:
        """Set the number of neighbours."""
        self.neighbours = neighbours


class ReconstructionError:
    """Squared distance to the principal components of the inliers that explain a share of their variance.

    Args:
        share: of the variance, above 0 and below 1.
    """

    def __init__(self, share: float) -> None:
        if not 0 < share < 1:
            raise UserError(f"algorithm.estimator.share={share}: above 0 and below 1")
        self.share = share

    def fit(self, x: np.ndarray) -> None:
        """Compute the components of the inliers (rows, features)."""
        self._mean = x.mean(0)
        _, values, directions = np.linalg.svd(x - self._mean, full_matrices=False)
        explained = np.cumsum(values**2) / max(np.sum(values**2), np.finfo(x.dtype).tiny)
        self._kept = directions[: int(np.searchsorted(explained, self.share)) + 1]

    def score_samples(self, x: np.ndarray) -> np.ndarray:
        """Minus the squared distances (rows,)."""
        centred = x - self._mean
        rest = centred - centred @ self._kept.T @ self._kept
        squares: np.ndarray = np.square(rest).sum(1)
        return -squares

    def get_params(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"share": self.share}

    def set_params(self, share: float) -> None:
        """Set the share of the variance."""
        self.share = share


def pyod_detector(name: str, parameters: Mapping[str, Any]) -> Any:
    """Make a detector of PyOD (Zhao et al. 2019), an optional package.

    Args:
        name: name of its class in ``pyod.models``, such as ``"ECOD"``.
        parameters: arguments of its constructor.

    Raises:
        UserError: PyOD or a package that the detector needs is not installed, it has no such detector, or an argument is wrong.
    """
    try:
        models = importlib.import_module("pyod.models")
    except ImportError as error:
        raise UserError(
            f"algorithm/estimator=pyod needs PyOD, which cannot be imported ({error}): pip install 'metaloop[pyod]'"
        ) from error
    modules = {module.name.replace("_", ""): module.name for module in pkgutil.iter_modules(models.__path__)}
    module = modules.get(name.lower())
    if module is None:
        raise UserError(
            f"algorithm.estimator.name={name!r}: PyOD has no such detector; {did_you_mean(name.lower(), sorted(modules))}"
            f"it has {', '.join(sorted(modules))}"
        )
    try:
        members = vars(importlib.import_module(f"pyod.models.{module}"))
        found = next(value for key, value in members.items() if key.lower() == name.lower() and isinstance(value, type))
        return found(**parameters)
    except (ImportError, StopIteration, TypeError) as error:
        raise UserError(f"algorithm.estimator: PyOD's {name} cannot be made with {dict(parameters)}: {error}") from error
