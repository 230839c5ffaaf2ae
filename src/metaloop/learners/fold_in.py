"""A new user of a model of items, fitted in closed form: a baseline of recommendation."""

from typing import Any, Self

import numpy as np

from metaloop.errors import UserError


class FoldIn:
    """One user's bias and factors by ridge regression on the rated items' means and factors (fold-in).

    The rating of an item with the mean m and the factors q is ``m + b + p q``. The user's bias b is the damped mean distance
    from the items' means (Koren 2010, equation 2); then the user's factors p minimise squared errors plus ``factors`` times
    their squared length. It has the methods of an estimator of scikit-learn, for
    :class:`metaloop.learners.estimator.Estimator` on the features of ``model=item_factors``.

    Args:
        bias: ratings of 0 that draw the bias towards 0, at least 0; infinity for no bias.
        factors: penalty of the factors, above 0; infinity for no factors.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, bias: float, factors: float) -> None:
        if not (bias >= 0 and factors > 0):
            raise UserError(f"algorithm.estimator.bias={bias}, algorithm.estimator.factors={factors}: at least 0, and above 0")
        self.bias, self.factors = bias, factors

    def get_params(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"bias": self.bias, "factors": self.factors}

    def set_params(self, **parameters: Any) -> Self:
        """Set some of them."""
        vars(self).update(parameters)
        return self

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        """Fit to the items' means and factors (ratings, 1 + factors) and the ratings (ratings,)."""
        rest = y - x[:, 0]
        self.offset_ = rest.sum() / (len(y) + self.bias)
        items = x[:, 1:].astype(np.float64)
        self.weights_ = np.zeros(items.shape[1])
        if np.isfinite(self.factors) and items.shape[1]:
            ridge = self.factors * np.eye(items.shape[1])
            self.weights_ = np.linalg.solve(items.T @ items + ridge, items.T @ (rest - self.offset_))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict the ratings (items,) of items (items, 1 + factors)."""
        predicted: np.ndarray = x[:, 0] + self.offset_ + x[:, 1:] @ self.weights_
        return predicted
