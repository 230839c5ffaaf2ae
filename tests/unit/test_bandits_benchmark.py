"""The benchmark of bandits plays small, and its page says what its record says."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bandits


def test_the_page_has_the_table_of_the_record() -> None:
    lines = bandits.table(json.loads(bandits.RECORD.read_text()))
    assert "\n".join(lines) in bandits.PAGE.read_text()


def test_totals_grow_by_the_mean_reward_of_a_pull() -> None:
    found = bandits.totals(bandits.AGENTS["random"], pulls=4, arms=2, tasks=400)
    assert found["mean"] == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=0.15)
    assert len(found["half_width"]) == 4
    again = bandits.totals(bandits.AGENTS["random"], pulls=4, arms=2, tasks=400)
    assert again == found
