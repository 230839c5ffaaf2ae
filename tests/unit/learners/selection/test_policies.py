"""Policies that choose a learner by meta-features."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeRegressor

from made_scenario import FEATURES, LEARNERS, tables, write_scenario
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.scenarios.selection import ASlib
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.learners.selection.embedding import DatasetEmbedding
from metaloop.learners.selection.neighbours import NearestDatasets, ranks
from metaloop.learners.selection.policy import PolicyFitter, filled, greedy_portfolio
from metaloop.learners.selection.selector import Selector
from metaloop.learners.selection.tree_words import nodes, printed
from metaloop.learners.selection.trees import MetaForest, MetaTree
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError
from metaloop.types import EpisodeSpec, Tasks

FITTERS: dict[str, Callable[[], PolicyFitter]] = {
    "tree": partial(MetaTree, depth=4, leaf=0.1, portfolios=[0.0, 1.0], repeats=1),
    "forest": partial(MetaForest, trees=20, leaf=2, features=1.0, portfolio=1.0),
    "neighbours": partial(NearestDatasets, neighbours=[2, 3]),
    "embedding": partial(DatasetEmbedding, width=16, size=2, steps=150, hidden=0.0, decay=0.01, portfolio=1.0),
}


def test_a_portfolio_closes_its_share_of_the_gap() -> None:
    y = np.array([[1.0, 0.0, 0.9], [1.0, 0.0, 0.9], [0.0, 1.0, 0.1], [0.6, 0.0, 1.0]])
    assert greedy_portfolio(y, 0.0) == [2]  # the single best: 2.9 of 4
    assert greedy_portfolio(y, 0.8) == [2, 1]
    assert greedy_portfolio(y, 1.0) == [2, 1, 0]


def test_unknown_values_are_below_all_known_ones() -> None:
    x = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    rows, unknown = filled(x, x)
    assert rows[2, 0] == unknown[0] < 1.0 - (3.0 - 1.0)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("name", FITTERS)
def test_a_policy_finds_the_rule_of_the_scenario(name: str) -> None:
    x, y = tables()
    policy = FITTERS[name]().fit(x, y, seed=0)
    new, performances = tables(seed=1)
    right = policy.values(new).argmax(1) == performances.argmax(1)
    assert right.mean() > 0.8
    assert np.array_equal(policy.values(new), FITTERS[name]().fit(x, y, seed=0).values(new))
    reasons = policy.reasons(FEATURES, LEARNERS, new[0])
    assert reasons.choice
    if reasons.importances is not None:
        assert FEATURES[int(reasons.importances.argmax())] == "curved"
        assert reasons.importances.sum() == pytest.approx(1.0)


def test_a_printed_tree_is_the_tree() -> None:
    x, y = tables()
    lines = FITTERS["tree"]().fit(x, y, seed=0).reasons(FEATURES, LEARNERS).tree
    assert [line.split("  (")[0] for line in lines] == ["curved ≤ 0.6176:", "    → 2_line", "curved > 0.6176:", "    → 1_tree"]
    assert "(11 data sets, +0.1000 against the single best)" in lines[1]
    assert "(7 data sets, the single best)" in lines[3]


def test_branches_with_one_learner_are_one_leaf_and_unknown_values_are_words() -> None:
    x, y = tables()
    x = x[:, [3, 1]]
    rows, unknown = filled(x, x)
    y[::2, 0] += 0.5  # the tree is best exactly where the feature is unknown
    made = DecisionTreeRegressor(max_depth=3).fit(rows, y)
    root = nodes(made.tree_, [0, 1, 2], y, rows)
    lines = list(printed(root, ("often_unknown", "curved"), LEARNERS, unknown))
    assert lines[0] == "often_unknown is unknown:"
    assert lines[1].strip().startswith("→ 1_tree")  # although the tree splits on
    assert lines[2] == "often_unknown is known:"


def test_ranks_are_quantiles() -> None:
    reference = np.array([[1.0], [10.0], [100.0], [np.nan]])
    assert ranks(np.array([[0.0], [10.0], [1e9], [np.nan]]), reference)[:, 0].tolist() == [0.0, 0.5, 1.0, 0.5]


def tasks(folder: Path) -> Tasks:
    split = ASlib(str(write_scenario(folder))).split("test")
    return Episodes(split, EpisodeSpec(1, 1000, 1), Stream(0, "test")).tasks(torch.arange(18))


def selector(name: str = "forest") -> Selector:
    return Selector(Cells((2, 4), None), MeanSquaredError(), FITTERS[name](), Loop())


def test_equal_support_sets_share_a_policy_and_batches_change_nothing(tmp_path: Path) -> None:
    made, learner = tasks(tmp_path), selector()
    answers = learner.adapt(made.support)(made.query.x)
    assert answers.shape == (18, 1, 4)
    assert len(learner._fitted) == 3
    assert torch.equal(learner.adapt(made[4:5].support)(made[4:5].query.x), answers[4:5])
    other = selector()
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.adapt(made.support)(made.query.x), answers)
    loss = learner.meta_loss(made)
    loss.loss.backward()
    assert learner.idle.grad == 0


def test_padding_and_query_targets_change_no_answer(tmp_path: Path) -> None:
    made, learner = tasks(tmp_path), selector("neighbours")
    support = made.support.map(lambda t: torch.cat([t, torch.zeros_like(t[:, :2])], 1))
    assert torch.equal(learner.adapt(support)(made.query.x), learner.adapt(made.support)(made.query.x))


def test_what_cannot_be_is_refused() -> None:
    cells, loss = Cells((2, 4), None), MeanSquaredError()
    for wrong, message in (
        (lambda: Selector(cells, loss, FITTERS["tree"](), Vmap()), "take loop"),
        (lambda: Selector(MLP((2, 4), None, [4]), loss, FITTERS["tree"](), Loop()), "take model=cells"),
        (lambda: Selector(cells, CrossEntropy(), FITTERS["tree"](), Loop()), "take dataset=aslib episode=scenario"),
        (lambda: MetaTree(5, 0.1, [1.0], 1), "policy.depth=5 must be from 1 to 4"),
        (lambda: MetaTree(4, 0.0, [1.0], 1), "policy.leaf=0.0 must be a share"),
        (lambda: MetaTree(4, 0.1, [], 1), "policy.portfolios is empty"),
        (lambda: MetaTree(4, 0.1, [2.0], 1), "policy.portfolios=2.0 must be a share"),
        (lambda: MetaTree(4, 0.1, [1.0], 0), "policy.repeats=0"),
        (lambda: MetaForest(0, 3, 0.3, 0.9), "policy.trees=0"),
        (lambda: MetaForest(10, 3, 0.0, 0.9), "policy.features=0.0"),
        (lambda: NearestDatasets([]), "policy.neighbours"),
        (lambda: DatasetEmbedding(8, 2, 10, 1.0, 0.0, 0.9), "policy.hidden=1.0"),
        (lambda: DatasetEmbedding(8, 2, 0, 0.1, 0.0, 0.9), "policy.steps=0"),
    ):
        with pytest.raises(UserError, match=message):
            wrong()
