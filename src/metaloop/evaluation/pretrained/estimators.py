"""Estimators of scikit-learn that predict with a prior-fitted transformer, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from metaloop.data.user.data_frames import encoded, encoding_of, is_frame
from metaloop.errors import UserError
from metaloop.evaluation.pretrained.table import MOST_ROWS, PretrainedTable, pretrained_table

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise UserError(
        "MetaloopClassifier and MetaloopRegressor need scikit-learn 1.6 or newer: pip install 'metaloop[tables]'"
    ) from error


class _TableEstimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share: columns become numbers, and the fitted table is the context of every answer."""

    def __init__(self, model: str | Path, members: int | None) -> None:
        self.model = model
        self.members = members

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _table(self) -> PretrainedTable:
        return pretrained_table(str(self.model), self.members)

    def _fitted_columns(self, x: Any, y: Any) -> np.ndarray:
        """Check a table and its targets, keep the table and return the targets."""
        self.encoding_ = encoding_of(x) if is_frame(x) else None
        x = x if self.encoding_ is None else encoded(x, self.encoding_)
        x, y = validate_data(self, x, y, dtype=np.float64, ensure_all_finite="allow-nan", y_numeric=False, multi_output=True)
        y = column_or_1d(y, warn=True)
        if len(x) > MOST_ROWS:
            raise ValueError(f"the table has {len(x):,} rows, and at most {MOST_ROWS:,} are read: fit a random part of them")
        self.x_ = x
        targets: np.ndarray = y
        return targets

    def _columns(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        if self.encoding_ is not None and is_frame(x):
            x = encoded(x, self.encoding_)
        columns: np.ndarray = validate_data(self, x, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        return columns


class MetaloopClassifier(ClassifierMixin, _TableEstimator):  # type: ignore[misc]
    """Classifier whose ``fit`` only keeps the table: a transformer that was trained on synthetic tables reads it at each call.

    Columns of a data frame may hold numbers, truth values, dates and texts (categories); values may be missing.

    Args:
        model: name of a run that comes with metaloop, or the directory of a run of ``algorithm=tabular_transformer``.
        members: versions of the table, with permuted classes, whose probabilities are averaged; None for the run's own number.

    Attributes:
        classes_: (classes,) the classes in order.
    """

    def __init__(self, model: str | Path = "pfn", members: int | None = None) -> None:
        super().__init__(model, members)

    def fit(self, X: Any, y: Any) -> Self:
        """Keep a table (rows, features) and its classes (rows,).

        Raises:
            ValueError: there are more classes or rows than the model reads, or a value is infinite.
            UserError: there is no such model.
        """
        y = self._fitted_columns(X, y)
        check_classification_targets(y)
        self.classes_, self.y_ = np.unique(y, return_inverse=True)
        most = self._table().classes
        if not most:
            raise UserError(f"model={str(self.model)!r} is a regression; MetaloopRegressor takes it")
        if len(self.classes_) > most:
            raise ValueError(f"y has {len(self.classes_)} classes, and the model {self.model} tells at most {most} apart")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (rows, classes)."""
        x = self._columns(X)
        if len(self.classes_) == 1:
            return np.ones((len(x), 1))
        return self._table().probabilities(self.x_, self.y_, x, len(self.classes_))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row (rows,)."""
        best = self.predict_proba(X).argmax(1)
        found: np.ndarray = self.classes_[best]
        return found


class MetaloopRegressor(RegressorMixin, _TableEstimator):  # type: ignore[misc]
    """Regressor whose ``fit`` only keeps the table; see :class:`MetaloopClassifier`.

    Args:
        model: name of a run that comes with metaloop, or the directory of a run of ``algorithm=tabular_transformer`` with
            ``algorithm.bars``.
    """

    def __init__(self, model: str | Path = "pfn_regression") -> None:
        super().__init__(model, None)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return ["model"]

    def fit(self, X: Any, y: Any) -> Self:
        """Keep a table (rows, features) and its targets (rows,).

        Raises:
            ValueError: there are more rows than the model reads, or a value is infinite.
            UserError: there is no such model.
        """
        y = self._fitted_columns(X, y)
        self.y_ = np.asarray(y, dtype=np.float64)
        if not np.isfinite(self.y_).all():
            raise ValueError("y contains NaN or infinity")
        if self._table().classes:
            raise UserError(f"model={str(self.model)!r} is a classification; MetaloopClassifier takes it")
        return self

    def predict(self, X: Any, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Mean (rows,) of the predicted distributions, with ``return_std`` also their standard deviations (rows,)."""
        x = self._columns(X)
        moments = self._table().moments(self.x_, self.y_, x)
        return (moments[:, 0], moments[:, 1]) if return_std else moments[:, 0]

    def predict_quantiles(self, X: Any, levels: Sequence[float] = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Quantiles (rows, levels) of the predicted distributions.

        Raises:
            ValueError: a level is not between 0 and 1.
        """
        if not all(0 < level < 1 for level in levels):
            raise ValueError(f"levels={levels}: each must be between 0 and 1")
        x = self._columns(X)
        return self._table().quantiles(self.x_, self.y_, x, levels)
