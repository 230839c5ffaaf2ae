"""The page of 2-D navigation says what the kept records say."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import navigation


def test_the_page_has_the_tables_of_the_records() -> None:
    page, record = navigation.GRADIENTS.read_text(), json.loads(navigation.RECORD.read_text())
    for lines in (navigation.learners(record), navigation.sensitivity()):
        assert len(lines) > 4
        assert "\n".join(lines) in page


def test_recorded_ways_begin_at_the_origin_and_adapted_ones_lead_closer_to_the_goal() -> None:
    def left(task: dict[str, object], step: str) -> float:
        ways, (x, y) = task["ways"][step], task["goal"]  # type: ignore[index, misc]
        return sum(((way[-1][0] - x) ** 2 + (way[-1][1] - y) ** 2) ** 0.5 for way in ways)

    for task in json.loads(navigation.RECORD.read_text())["tasks"]:
        assert all(way[0] == [0.0, 0.0] for ways in task["ways"].values() for way in ways)
        assert left(task, "3") < left(task, "0")
