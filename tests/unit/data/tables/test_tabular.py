"""Tabular episodes: what they hold, by whom they are standardised, what is missing."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.tables.standardization import standardized
from metaloop.data.tables.table_reading import SCIKIT_LEARN, UCI, read_table
from metaloop.data.tables.tabular import Tabular, TabularTasks
from metaloop.errors import UserError
from metaloop.problems.classification import Classification
from metaloop.problems.regression import Regression
from metaloop.types import EpisodeSpec, Tasks

CLASSES = {"train": ["digits", "iris"], "validation": ["wine"], "test": ["breast_cancer"]}
NUMBERS = torch.arange(40)


def classes(**more: object) -> Tabular:
    return Tabular(Classification(), more.pop("tables", CLASSES), "nowhere", **more)


def tasks(split: str, spec: EpisodeSpec, **more: object) -> Tasks:
    return Episodes(classes(**more).split(split), spec, Stream(0, split)).tasks(NUMBERS)


def test_every_shipped_table_is_read() -> None:
    shapes = {name: read_table(name, "nowhere").x.shape for name in SCIKIT_LEARN}
    assert shapes == {
        "iris": (150, 4), "wine": (178, 13), "breast_cancer": (569, 30), "digits": (1797, 64), "diabetes": (442, 10),
    }  # fmt: skip


@pytest.mark.data
def test_the_uci_tables_are_read(real_data: Path) -> None:
    shapes = {name: read_table(name, str(real_data / "tabular")).x.shape for name in UCI}
    assert shapes["yacht"] == (308, 6)
    assert shapes["protein-tertiary-structure"] == (45730, 9)
    assert min(rows for rows, _ in shapes.values()) == 308
    assert set(shapes) == set(UCI)


def test_narrow_tables_are_padded_and_marked() -> None:
    found = tasks("validation", EpisodeSpec(3, 5, 4))
    assert found.support.x.shape == (40, 15, 2, 64)
    assert found.query.x.shape == (40, 12, 2, 64)
    values, known = found.support.x.unbind(2)
    assert known[..., :13].all()
    assert not known[..., 13:].any()
    assert not values[..., 13:].any()


def test_standardised_by_the_support_alone() -> None:
    found = tasks("validation", EpisodeSpec(3, 5, 4))
    values = found.support.x[:, :, 0, :13]
    torch.testing.assert_close(values.mean(1), torch.zeros(40, 13), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.var(1, correction=0), torch.ones(40, 13), atol=1e-4, rtol=0)
    support, query = torch.randn(2, 2, 5, 4).double().unbind()
    (_, x), _ = standardized(support, query, None)
    (_, again), (_, asked) = standardized(support, 3 * query + 1, None)
    assert torch.equal(x, again)
    assert not torch.allclose(asked, standardized(support, query, None)[1][1])


def test_labels_are_of_the_tables_classes() -> None:
    found = tasks("test", EpisodeSpec(2, 10, 5))
    assert set(map(tuple, found.classes.tolist())) == {(0, 1), (1, 0)}
    table = read_table("breast_cancer", "")
    worst = torch.from_numpy(table.x[:, 20])  # the largest radius, which is larger in class 0 by far
    assert worst[torch.from_numpy(table.y) == 0].mean() > worst[torch.from_numpy(table.y) == 1].mean() + 5
    large = found.support.x[:, :, 0, 20].view(40, 2, 10).mean(2)
    assert torch.equal(large.argmax(1), found.classes.argmin(1))


def test_a_table_of_several_splits_is_shared_out() -> None:
    pools = [classes(tables=dict.fromkeys(CLASSES, ("iris",))).split(split) for split in CLASSES]
    assert [len(pool.rows) for pool in pools] == [48, 51, 51]
    whole = read_table("iris", "").x
    together = torch.cat([pool.rows[:, 1:] for pool in pools]).numpy()
    assert np.array_equal(np.sort(together, axis=0), np.sort(whole, axis=0))


def test_missing_values_are_marked_and_stand_at_zero() -> None:
    found = tasks("validation", EpisodeSpec(3, 5, 4), missing=0.3)
    values, known = found.support.x[..., :13].unbind(2)
    assert 0.25 < 1 - known.mean() < 0.35
    assert not values[known == 0].any()
    assert torch.isfinite(found.query.x).all()


def test_a_column_without_a_value_or_a_unit_in_the_support_says_nothing() -> None:
    nan = float("nan")
    support = torch.tensor([[[0.0, nan, 2.0, 1.0], [1.0, nan, 2.0, 3.0]]]).double()
    query = torch.tensor([[[0.5, 5.0, 9.0, 500.0]]]).double()
    _, (y, x) = standardized(support, query, None)
    assert y.tolist() == [[[0.0]]]
    assert x[0, 0].isnan().tolist() == [True, False, False]
    assert x[0, 0, 1:].tolist() == [0.0, 10.0]


@pytest.mark.parametrize("origin", [0.0, 1.7e9, 1.7e12, -3e5])  # times in seconds or milliseconds, say
@pytest.mark.parametrize("size", [1.0, 600.0])
def test_B7_a_small_spread_beside_a_large_mean_is_kept(origin: float, size: float) -> None:
    steps = torch.tensor([-1.0, 1.0, -1.0, 1.0, 0.5])
    rows = torch.stack([torch.zeros(5), steps], -1)[None].double()
    near, far = (standardized(part[:, :4], part[:, 4:], None) for part in (rows, rows * size + origin))
    torch.testing.assert_close(far, near, atol=1e-2, rtol=0)


def test_B7_differences_of_rounding_are_no_spread() -> None:
    value = 0.1 + 0.2
    rows = torch.tensor([[[0.0, 0.3], [0.0, value], [0.0, 0.3]]], dtype=torch.float64)
    assert not standardized(rows, rows, None)[1][1].any()


def test_padded_rows_do_not_count() -> None:
    support, query = torch.randn(2, 1, 4, 3).double().unbind()
    mask = torch.tensor([[True, True, True, False]])
    found = standardized(support, query, mask)[1]
    expected = standardized(support[:, :3], query, None)[1]
    torch.testing.assert_close(found, expected)


def test_regressions_from_a_local_archive(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with ZipFile(tmp_path / "uci_regression.zip", "w") as archive:
        for name, width in (("yacht", 3), ("energy", 5)):
            rows = random.normal(size=(40, width + 1))
            archive.writestr(f"{name}__data.txt", "\n".join(" ".join(map(str, row)) for row in rows))
            archive.writestr(f"{name}__index_target.txt", str(width))
            archive.writestr(f"{name}__index_features.txt", "\n".join(map(str, range(width))))
    tables = {"train": ["energy"], "validation": ["yacht", "energy"], "test": ["yacht"]}
    pool = Tabular(Regression(), tables, str(tmp_path)).split("test")
    assert pool.input_shape == (2, 5)
    assert pool.num_classes is None
    found = Episodes(pool, EpisodeSpec(1, 8, 6), Stream(0, "test")).tasks(NUMBERS)
    assert found.support.y.shape == (40, 8, 1)
    torch.testing.assert_close(found.support.y.mean(1), torch.zeros(40, 1), atol=1e-5, rtol=0)
    assert found.support.ways == 0
    with pytest.raises(UserError, match=r"episode\.ways=2: a regression task"):
        pool.check(EpisodeSpec(2, 8, 6))
    (tmp_path / "uci_regression.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="is broken or has no table yacht"):
        read_table("yacht", str(tmp_path))


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"'irish' must be one of iris, wine"):
        classes(tables=CLASSES | {"train": ["irish"]}).split("train")
    with pytest.raises(UserError, match=r"targets of diabetes are values, so dataset\.problem cannot be classification"):
        classes(tables=CLASSES | {"train": ["diabetes"]}).split("train")
    with pytest.raises(UserError, match=r"nowhere/uci_regression\.zip of table .* does not exist"):
        Tabular(Regression(), dict.fromkeys(CLASSES, ("yacht",)), "nowhere").split("train")
    with pytest.raises(UserError, match=r"at least one table for each of"):
        classes(tables={"train": ["iris"]})
    with pytest.raises(UserError, match=r"dataset\.missing=1\.0"):
        classes(missing=1.0)
    pool: TabularTasks = classes().split("test")
    with pytest.raises(UserError, match=r"episode\.ways=3: table breast_cancer of the test split has 2 classes"):
        pool.check(EpisodeSpec(3, 1, 1))
    with pytest.raises(
        UserError,
        match=r"episode.shots=200, episode.queries=15, 215 examples: table breast_cancer .* has only 212 rows of some class",
    ):
        pool.check(EpisodeSpec(2, 200, 15))
