"""Synthetic tables: what an episode is, and that there is something to learn in it."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from metaloop.data.philox import Stream
from metaloop.data.tables.prior import columns as made
from metaloop.data.tables.prior.causal_model import LAYERS, causal_nodes
from metaloop.data.tables.prior.layers import perceptron, standardize, trees
from metaloop.data.tables.prior.table_prior import SyntheticTables, TablePrior
from metaloop.data.tables.prior.targets import classes, ranked_classes
from metaloop.errors import UserError
from metaloop.metrics.classification import area_under_roc_of_classes
from metaloop.problems.regression import Regression
from metaloop.problems.table_classification import TableClassification
from metaloop.types import EpisodeSpec, Tasks

STREAM = Stream(0, "train")
SPEC = EpisodeSpec(ways=10, shots=(2, 8), queries=6)
REGRESSION = EpisodeSpec(ways=1, shots=80, queries=60)


def drawn(count: int = 16, spec: EpisodeSpec = SPEC, **arguments: object) -> Tasks:
    settings = {"problem": TableClassification(), "columns": 10, "nodes": 5, "missing": 0.2, **arguments}
    return SyntheticTables(**settings).draw(STREAM, torch.arange(count), spec)  # type: ignore[arg-type]


def test_sizes_are_those_of_the_episode() -> None:
    tasks = drawn()
    assert tasks.support.x.shape == (16, 80, 2, 10)
    assert tasks.query.x.shape == (16, 60, 2, 10)
    assert tasks.support.mask is not None
    rows = tasks.support.mask.sum(1)
    assert rows.min() >= 20
    assert rows.max() <= 80
    assert len(rows.unique()) > 8
    assert int(tasks.support.y.max()) < 10


def test_an_episode_depends_on_its_number_alone() -> None:
    numbers = torch.tensor([7, 3, 12])
    distribution = SyntheticTables(TableClassification(), 10, 5, 0.2)
    together = distribution.draw(STREAM, numbers, SPEC)
    for place, number in enumerate(numbers):
        alone = distribution.draw(STREAM, number[None], SPEC)
        torch.testing.assert_close(alone.query.x[0], together.query.x[place])
        assert torch.equal(alone.support.y[0], together.support.y[place])


def test_queries_of_a_class_without_support_are_not_scored() -> None:
    tasks = drawn(64)
    assert tasks.support.mask is not None
    assert tasks.query.mask is not None
    assert not tasks.query.mask.all()
    for task in range(64):
        shown = set(tasks.support.y[task][tasks.support.mask[task]].tolist())
        expected = [label in shown for label in tasks.query.y[task].tolist()]
        assert tasks.query.mask[task].tolist() == expected


def test_a_forest_finds_what_there_is_to_learn() -> None:
    """Half of the tables are learnable to an area of 0.75 from 200 rows, and few are not at all; labels at random would be."""
    tasks = drawn(24, EpisodeSpec(ways=10, shots=20, queries=20))
    areas = []
    for task in range(24):
        x, y, queries = (each[task].flatten(1).numpy() for each in (tasks.support.x, tasks.support.y[..., None], tasks.query.x))
        forest = RandomForestClassifier(30, random_state=0).fit(x, y[:, 0])
        answers = np.zeros((200, 10))
        answers[:, forest.classes_] = forest.predict_proba(queries)
        assert tasks.query.mask is not None
        label, real = tasks.query.y[task][None], tasks.query.mask[task][None]
        areas.append(area_under_roc_of_classes(torch.tensor(answers)[None], label, real))
    assert torch.cat(areas).median() > 0.75
    assert torch.cat(areas).min() < 0.7  # some are hard


def test_targets_of_regression_are_functions_of_the_features() -> None:
    tasks = drawn(12, REGRESSION, problem=Regression(), missing=0.0)
    assert tasks.support.y.shape == (12, 80, 1)
    errors = []
    for task in range(12):
        x, y = tasks.support.x[task].flatten(1).numpy(), tasks.support.y[task, :, 0].numpy()
        forest = RandomForestRegressor(30, random_state=0).fit(x, y)
        error = (forest.predict(tasks.query.x[task].flatten(1).numpy()) - tasks.query.y[task, :, 0].numpy()) ** 2
        errors.append(error.mean() / tasks.query.y[task].var().item())
    assert np.median(errors) < 0.8


def test_support_rows_standardize_the_columns() -> None:
    tasks = drawn(8, EpisodeSpec(ways=10, shots=10, queries=6), missing=0.0)
    values, known = tasks.support.x[:, :, 0], tasks.support.x[:, :, 1]
    used = known.all(1)
    assert 2 <= used.sum(1).min() <= used.sum(1).max() <= 10
    torch.testing.assert_close(values.mean(1)[used], torch.zeros(int(used.sum())), atol=0.05, rtol=0)


def test_every_layer_is_standardized_and_varied() -> None:
    numbers = torch.arange(20)
    parents = standardize(torch.randn(20, 100, 6, generator=torch.Generator().manual_seed(0)))
    for layer in (perceptron, trees):
        nodes = layer(STREAM, numbers, parents, "layer")
        assert nodes.shape == parents.shape
        spread = nodes.std(1, correction=0)
        torch.testing.assert_close(spread[spread > 0.1], torch.ones(int((spread > 0.1).sum())), atol=1e-3, rtol=0)
        assert (spread > 0.1).float().mean() > 0.8
    assert (trees(STREAM, numbers, parents, "layer")[0, :, 0].unique()).numel() <= 16


def test_nodes_of_all_layers_and_clusters() -> None:
    nodes, last, cluster = causal_nodes(STREAM, torch.arange(30), 50, 5)
    assert nodes.shape == (30, 50, 5 * (LAYERS + 1))
    assert torch.equal(nodes[..., -5:], last)
    assert {-1, 0, 1} <= set(cluster.unique().tolist())
    assert ((cluster < 0).all(1) | (cluster >= 0).all(1)).all()


def test_classes_are_numbered_without_gaps_and_in_random_order() -> None:
    numbers = torch.arange(200)
    nodes, last, cluster = causal_nodes(STREAM, numbers, 300, 5)
    y = classes(STREAM, numbers, last, nodes[..., 7], cluster, 10)
    assert y.min() == 0
    assert (y.amax(1) == 1).float().mean() > 0.2  # two classes are frequent
    first = [y[task][last[task, :, 0].argmin()].item() for task in range(200)]
    assert len(set(first)) > 3


def test_rare_classes_occur() -> None:
    numbers = torch.arange(300)
    node = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    y = ranked_classes(STREAM, numbers, node, torch.full((300, 1), 2), 10)
    share = (y == 1).float().mean(1)
    assert 0.2 < (share < 0.1).float().mean() < 0.5
    assert (share > 0.5).float().mean() > 0.2


def test_columns_as_real_tables_have_them() -> None:
    numbers, table = torch.arange(100), torch.randn(100, 60, 8, generator=torch.Generator().manual_seed(0))
    codes = made.categorical(STREAM, numbers, table)
    few = torch.tensor([[len(codes[t, :, c].unique()) <= 8 for c in range(8)] for t in range(100)])
    assert 0.1 < few.float().mean() < 0.5
    hidden = made.incomplete(STREAM, numbers, table, 0.3).isnan().float().mean((1, 2))
    assert 0.15 < (hidden > 0).float().mean() < 0.45
    counts = (~made.fewer(STREAM, numbers, table, 2).isnan()).all(1).sum(1)
    assert counts.min() == 2
    assert counts.max() == 8
    assert 4 < counts.float().mean() < 6
    changed = (made.irrelevant(STREAM, numbers, table) != table).all(1).float().mean()
    assert 0.02 < changed < 0.4
    assert made.warped(STREAM, numbers, table).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"columns": 1}, "dataset.columns=1: from 2 to 14"), ({"columns": 15}, "dataset.columns=15"), ({"missing": 1.5}, "share")],
)
def test_wrong_settings_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        drawn(1, SPEC, **arguments)


@pytest.mark.parametrize(("problem", "ways"), [(TableClassification(), 1), (TableClassification(), (2, 5)), (Regression(), 3)])
def test_wrong_ways_are_refused(problem: TableClassification, ways: int) -> None:
    with pytest.raises(UserError, match=r"episode.ways=\d+"):
        SyntheticTables(problem, 4, 5, 0.0).check(EpisodeSpec(ways=ways, shots=5, queries=5))


def test_the_test_split_has_real_tables() -> None:
    prior = TablePrior(TableClassification(), 10, 5, 0.0, ["iris"], "nowhere")
    assert prior.split("train") is prior.split("validation")
    test = prior.split("test")
    tasks = test.draw(Stream(0, "test"), torch.arange(2), EpisodeSpec(ways=10, shots=50, queries=50))
    assert tasks.support.mask is not None
    assert tasks.support.mask.sum(1).tolist() == [75, 75]
