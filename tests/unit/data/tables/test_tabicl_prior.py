"""The prior of the package tabicl: tables by number, and what is said without the package."""

import importlib.util

import numpy as np
import pytest
import torch

from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.tables.prior.tabicl_prior import TabiclPrior, TabiclTables
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.problems.regression import Regression
from metaloop.problems.table_classification import TableClassification
from metaloop.types import EpisodeSpec

HERE = all(importlib.util.find_spec(name) for name in ("tabicl", "xgboost"))
SPECS = {
    "classification": (TableClassification(), EpisodeSpec(ways=4, shots=(2, 8), queries=5)),
    "regression": (Regression(), EpisodeSpec(ways=1, shots=(8, 30), queries=20)),
}


def test_a_missing_package_and_an_unknown_kind_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"dataset.kind='forest': one of mlp_scm"):
        TabiclPrior(TableClassification(), 10, "forest", ["iris"], "data")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs tabicl and xgboost, not installed: pip install 'metaloop\[tabicl\]'"):
        TabiclPrior(TableClassification(), 10, "mlp_scm", ["iris"], "data")


@pytest.mark.skipif(not HERE, reason="needs the packages tabicl and xgboost")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SPECS)
def test_a_table_is_a_function_of_its_number(name: str) -> None:
    problem, spec = SPECS[name]
    assert isinstance(problem, Problem)
    episodes = Episodes(TabiclTables(problem, 6, "mlp_scm"), spec, Stream(0, "train"))
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    together = episodes.tasks(torch.arange(3))
    assert torch.equal(torch.get_rng_state(), states[0])  # the generators that tabicl draws from are as before
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    alone = episodes.tasks(torch.tensor([2]))
    assert torch.equal(together.support.x[2:], alone.support.x)
    assert torch.equal(together.query.y[2:], alone.query.y)
    assert not torch.equal(together.support.x[0], together.support.x[1])
    assert together.support.x.shape[2:] == (2, 6)
