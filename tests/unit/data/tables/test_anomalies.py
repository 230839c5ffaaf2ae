"""Tasks of anomaly detection: real tables, synthetic tasks, their mixture, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomaly_files import write_tables
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.tables.anomalies.anomalies import Anomalies
from metaloop.data.tables.anomalies.detection_tables import DetectionTables
from metaloop.data.tables.anomalies.layout import Supervision
from metaloop.data.tables.table_reading import DataTable
from metaloop.errors import UserError
from metaloop.problems.anomaly_scoring import AnomalyScoring
from metaloop.testing import check_dataset
from metaloop.types import EpisodeSpec, Tasks

SPEC = EpisodeSpec(ways=1, shots=(20, 40), queries=30)
TABLES = {"train": ["first"], "validation": ["second"], "test": ["third"]}


def data_set(folder: Path | str = "nowhere", tables: dict[str, list[str]] = TABLES, **changes: Any) -> Anomalies:
    settings: dict[str, Any] = {
        "columns": 4, "labelled": {"train": [0, 5], "validation": 3, "test": 0},
        "contamination": dict.fromkeys(TABLES, 0.0), "synthetic": 0.5, "train_share": 0.3, "nodes": 4, "missing": 0.2,
    }  # fmt: skip
    return Anomalies(tables, str(folder), **{**settings, **changes})


def drawn(data: Anomalies, split: str, count: int = 12, spec: EpisodeSpec = SPEC) -> Tasks:
    return Episodes(data.split(split), spec, Stream(0, split)).tasks(torch.arange(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tabular"))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_episode_is_a_function_of_its_number(folder: Path, split: str) -> None:
    data = data_set(folder)
    together, alone = drawn(data, split), Episodes(data.split(split), SPEC, Stream(0, split)).tasks(torch.tensor([7]))
    assert torch.equal(together.support.x[7:8], alone.support.x)
    assert torch.equal(together.query.y[7:8], alone.query.y)
    assert together.support.mask is not None
    assert alone.support.mask is not None
    assert torch.equal(together.support.mask[7:8], alone.support.mask)


def test_sizes_labels_and_proportions_are_those_of_the_config(folder: Path) -> None:
    tasks = drawn(data_set(folder), "validation", 20)
    support, query = tasks.support, tasks.query
    assert support.mask is not None
    assert query.mask is not None
    labelled = (support.y[..., 0] * support.mask).sum(1)
    inliers = ((1 - support.y[..., 0]) * support.mask).sum(1)
    assert bool((labelled == 3).all())
    assert 20 <= inliers.min() < inliers.max() <= 40
    assert bool(((query.y[..., 0] * query.mask).sum(1) == 3).all())  # 12 of 132 rows are anomalies: 3 of 30 queries
    train = drawn(data_set(folder, synthetic=0.0), "train")
    left = 12 - train.support.y.sum((1, 2))
    assert torch.equal(train.query.y.sum((1, 2)), left.clamp(max=9))  # train_share, as far as there are anomalies


def test_no_row_is_in_support_and_query(folder: Path) -> None:
    tasks = drawn(data_set(folder, columns=6), "test", 6)
    for task in range(6):
        rows = torch.cat([tasks.support.x[task][_mask(tasks.support.mask, task)], tasks.query.x[task]]).flatten(1)
        assert len(torch.unique(rows, dim=0)) == len(rows)


def _mask(mask: torch.Tensor | None, task: int) -> torch.Tensor:
    assert mask is not None
    return mask[task]


def test_columns_are_in_units_of_the_inliers(folder: Path) -> None:
    tasks = drawn(data_set(folder), "validation", 4)
    for task in range(4):
        inlier = _mask(tasks.support.mask, task) & (tasks.support.y[task, :, 0] == 0)
        values = tasks.support.x[task, inlier, 0]
        torch.testing.assert_close(values.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_contamination_hides_anomalies_among_the_inliers() -> None:
    x = np.concatenate([np.zeros((200, 2)) + np.random.default_rng(0).normal(size=(200, 2)), np.full((40, 2), 9.0)])
    table = DataTable("t", x, np.repeat([0, 1], [200, 40]), 2)
    spec = EpisodeSpec(ways=1, shots=50, queries=20)
    for contamination, expected in ((0.1, 5), ("own", round(50 * 40 / 240))):
        supervision = Supervision.of("test", 2, contamination, None)
        tasks = DetectionTables([table], AnomalyScoring(), 2, supervision, "test").draw(
            Stream(0, "test"), torch.arange(3), spec
        )
        unlabelled = tasks.support.x[:, :50, 0]
        assert bool(((unlabelled > unlabelled.median()).all(2) & (unlabelled > 1.5).all(2)).sum(1).eq(expected).all())
        assert tasks.support.y.sum() == 3 * 2


def test_synthetic_anomalies_differ_from_inliers_more_than_chance_and_less_than_always() -> None:
    data = data_set(tables={split: [] for split in TABLES}, columns=8)
    tasks = drawn(data, "train", 60, EpisodeSpec(ways=1, shots=60, queries=40))
    baseline = data.problem.baseline((2, 8))
    assert baseline is not None
    scores = baseline.answer(tasks.support, tasks.query.x)[..., 0]
    areas = [roc_auc_score(y[:, 0], score) for y, score in zip(tasks.query.y, scores, strict=True)]
    assert 0.65 < np.mean(areas) < 0.95
    assert np.mean(np.array(areas) > 0.95) > 0.05


def test_training_mixes_synthetic_and_real_tasks(folder: Path) -> None:
    data = data_set(folder, missing=0.0)
    widths = drawn(data, "train", 40).support.x[:, :, 1].amax(1).sum(1)
    assert bool((widths < 4).any())  # only synthetic tables have fewer columns
    contents = data.split("train").contents()
    assert contents is not None
    assert list(contents.classes) == ["adbench:first"]


def test_the_contract_holds(folder: Path) -> None:
    check_dataset(data_set(folder, synthetic=0.0), EpisodeSpec(ways=1, shots=20, queries=10))
    synthetic = data_set(tables={split: [] for split in TABLES})
    check_dataset(synthetic, EpisodeSpec(ways=1, shots=(5, 20), queries=10), disjoint=False)  # rows of categories can be equal


def test_what_cannot_be_used_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"first is in train and in test"):
        data_set(folder, {**TABLES, "test": ["first"]})
    with pytest.raises(UserError, match=r"dataset.labelled.test='many'"):
        data_set(folder, labelled={**dict.fromkeys(TABLES, 0), "test": "many"})
    with pytest.raises(UserError, match=r'dataset.contamination.train=0.7: a share in \[0, 0.5\], or "own"'):
        data_set(folder, contamination={**dict.fromkeys(TABLES, 0.0), "train": 0.7})
    with pytest.raises(UserError, match=r"no table 'nothing' in .*adbench_classical: it has first, second, third"):
        data_set(folder, {**TABLES, "test": ["nothing"]}).split("test")
    with pytest.raises(UserError, match=r"dataset.labelled.test=12: table adbench:third has 12 anomalies, and 13 are needed"):
        data_set(folder, labelled=dict.fromkeys(TABLES, 12)).split("test").check(SPEC)
    with pytest.raises(UserError, match=r"take episode=anomalies, or ways=1"):
        data_set(folder).split("test").check(EpisodeSpec(ways=5, shots=5, queries=5))


@pytest.mark.parametrize(("y", "fault"), [(0, "120 inliers .* and 0 anomalies"), (1, "0 inliers .* and 120 anomalies")])
def test_a_table_of_one_class_is_refused(y: int, fault: str) -> None:
    table = DataTable("t", np.random.default_rng(0).normal(size=(120, 2)), np.full(120, y), 2)
    with pytest.raises(UserError, match=fault):
        DetectionTables([table], AnomalyScoring(), 2, Supervision.of("test", 0, 0.0, None), "test")


def test_missing_values_are_read_and_infinite_ones_refused() -> None:
    x = np.random.default_rng(0).normal(size=(120, 2))
    x[5, 0], y = np.nan, np.repeat([0, 1], [110, 10])
    tables = DetectionTables([DataTable("t", x, y, 2)], AnomalyScoring(), 2, Supervision.of("test", 0, 0.0, None), "test")
    tasks = tables.draw(Stream(0, "test"), torch.arange(4), EpisodeSpec(ways=1, shots=50, queries=60))
    assert bool((torch.cat([tasks.support.x, tasks.query.x], 1)[:, :, 1] == 0).any())
    x[7, 1] = np.inf
    with pytest.raises(UserError, match="row 8 of X is infinite; write nan"):
        DetectionTables([DataTable("t", x, y, 2)], AnomalyScoring(), 2, Supervision.of("test", 0, 0.0, None), "test")
