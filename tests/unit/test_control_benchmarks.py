"""The benchmarks of decision processes and dark rooms play small, and the page says what their records say."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import dark_rooms
import decision_processes
from harness.playing import IN_CONTEXT


def test_the_page_has_the_table_of_the_record() -> None:
    lines = decision_processes.table(json.loads(decision_processes.RECORD.read_text()))
    assert "\n".join(lines) in decision_processes.PAGE.read_text()


def test_totals_of_random_actions_are_the_mean_reward_of_a_step_each() -> None:
    found = decision_processes.totals(decision_processes.AGENTS["random"], 2, tasks=500)
    assert found["mean"] == pytest.approx(20, abs=4 * found["half_width"])


def test_a_curve_has_mean_and_interval_of_each_episode_and_is_drawn() -> None:
    row = dark_rooms.curve(torch.tensor([[0.0, 2.0], [0.0, 4.0]]))
    assert row["mean"] == [0.0, 3.0]
    assert row["half_width"][0] == 0.0 < row["half_width"][1]
    assert dark_rooms.draw({"oracle": row}).startswith(b"\x89PNG")


def test_the_page_says_what_the_record_of_dark_rooms_says() -> None:
    curves, page = json.loads(dark_rooms.RECORD.read_text())["curves"], IN_CONTEXT.read_text()
    for name, episode in (("in context", 15), ("in context", 20), ("Q-learning with replay", 20)):
        mean, half_width = (curves[name][key][episode - 1] for key in ("mean", "half_width"))
        assert f"{mean:.1f} ± {half_width:.1f}" in page
    assert curves["in context"]["mean"][13] < 0.8 * curves["oracle"]["mean"][0] <= curves["in context"]["mean"][14]
