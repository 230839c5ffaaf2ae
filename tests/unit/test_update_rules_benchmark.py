"""The benchmark of learned update rules plays small, and the page says what its records say."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import update_rules

from metaloop.learners.control.policy_gradient.baselines import LinearFeatures
from metaloop.learners.control.update_rules.lpg import LPG
from metaloop.models.cells import Cells
from metaloop.problems.control import Actions, Regret


def test_the_page_has_the_tables_of_the_record() -> None:
    page, record = update_rules.PAGE.read_text(), json.loads(update_rules.RECORD.read_text())
    for lines in (update_rules.table(record), update_rules.of_disco(record)):
        assert "\n".join(lines) in page


def test_agents_of_other_actions_are_taught_and_policy_gradients_teach_bandits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_rules, "RATES", (1.0, 4.0))
    torch.manual_seed(0)
    trained = LPG(
        Cells((5,), None), Regret(), Actions(3), LinearFeatures(), tabular=True, predictions=3, hidden=4, embedding=3, rate=1.0,
        updates=20, eval_updates=None, window=5, streams=8, episodes=2, outer_episodes=2, discount=0.99, prediction_weight=0.5,
        entropy=0.0, prediction_entropy=0.0, policy_penalty=0.0, prediction_penalty=0.0,
    )  # fmt: skip
    found = update_rules.compared(trained, update_rules.BernoulliBandits(5), tasks=30)
    assert found["updates"] == list(range(0, 21, 2))
    assert found["policy gradient"]["mean"][0] == found["LPG"]["mean"][0]  # the same agents on the same episodes
    assert found["policy gradient"]["mean"][-1] > found["policy gradient"]["mean"][0] + 0.1
    assert len(found["validation"]) == 4
