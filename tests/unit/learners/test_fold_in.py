"""A new user's bias and factors."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from metaloop.errors import UserError
from metaloop.learners.fold_in import FoldIn


def user(count: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(count, 4)).astype(np.float32), random.normal(size=count)


def test_without_penalty_on_nothing_it_is_the_items_mean() -> None:
    x, y = user()
    np.testing.assert_array_equal(FoldIn(np.inf, np.inf).fit(x, y).predict(x), x[:, 0])


def test_the_bias_is_a_damped_mean() -> None:
    x, y = user()
    expected = x[:, 0] + (y - x[:, 0]).sum() / (7 + 3)
    np.testing.assert_allclose(FoldIn(3.0, np.inf).fit(x, y).predict(x), expected, rtol=1e-6)


def test_factors_are_a_ridge_regression() -> None:
    x, y = user()
    bias = (y - x[:, 0]).sum() / (7 + 3)
    ridge = Ridge(alpha=2.0, fit_intercept=False).fit(x[:, 1:].astype(float), y - x[:, 0] - bias)
    found = FoldIn(3.0, 2.0).fit(x, y).predict(x)
    np.testing.assert_allclose(found, x[:, 0] + bias + ridge.predict(x[:, 1:].astype(float)), rtol=1e-6)


@pytest.mark.parametrize(("bias", "factors"), [(-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_bad_values_are_refused(bias: float, factors: float) -> None:
    with pytest.raises(UserError, match=r"algorithm\.estimator\.bias"):
        FoldIn(bias, factors)
