"""Meta-features of tables."""

import numpy as np
import pytest

from metaloop.data.tables.meta_features import DESCRIPTIONS, meta_features
from metaloop.errors import UserError


def table(rows: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    x = random.normal(size=(rows, 4))
    x[:, 0] += 6 * y  # tells the class
    x[:, 1] = x[:, 0] * 2 + 1  # the same once more
    x[:, 2] = 7.0
    x[::10, 3] = np.nan
    return x, y


def test_each_is_described_finite_and_named_once() -> None:
    values = meta_features(*table())
    assert list(values) == list(DESCRIPTIONS)
    assert len(values) == 30
    assert np.isfinite(list(values.values())).all()


def test_values_are_those_of_their_definitions() -> None:
    values = meta_features(*table())
    assert values["log_rows"] == pytest.approx(np.log10(120))
    assert values["classes"] == 3
    assert values["missing_share"] == pytest.approx(12 / 480)
    assert values["incomplete_rows"] == pytest.approx(0.1)
    assert values["constant_features"] == 0.25
    assert values["max_correlation"] == pytest.approx(1.0)
    assert values["class_entropy"] == pytest.approx(1.0)
    assert values["majority_share"] == pytest.approx(1 / 3)
    assert values["max_mutual_information"] > 0.8
    assert values["linear"] > 0.95
    assert values["stump"] < 0.75  # two of three classes
    assert values["curvature"] == pytest.approx(values["nearest_neighbour"] - values["linear"])


def test_units_and_the_order_of_columns_do_not_matter() -> None:
    x, y = table()
    first, second = meta_features(x, y), meta_features(x[:, ::-1] * 1000 - 5, y)
    assert first == pytest.approx(second, rel=1e-6, abs=1e-9)


def test_odd_columns_are_described() -> None:
    x, y = table(30)
    x = np.column_stack([x[:, 2], np.full(30, np.nan), y == 1])
    values = meta_features(x, y)
    assert np.isfinite(list(values.values())).all()
    assert values["binary_features"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y * 0), "has one class"),
        (lambda x, y: (x, np.where(np.arange(len(y)) == 0, 9, y)), "class 9 has 1 rows"),
        (lambda x, y: (x * np.nan, y), "no known value"),
    ],
)
def test_tables_without_a_choice_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        meta_features(*change(*table()))
