"""A tracker in the background: what is dropped, what waits, and what order its calls have."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metaloop.tracking.background import BackgroundTracker
from metaloop.tracking.tracker import RunInfo

RUN = RunInfo(Path(), "name", None, {}, {}, 0)


class Noting(BackgroundTracker):
    """Notes its calls; holds at the first row until it is let go."""

    def __init__(self, rows: int, wait: float = 30.0) -> None:
        super().__init__("the tracker", wait, rows)
        self.calls: list[Any] = []
        self.reached, self.let_go = threading.Event(), threading.Event()

    def _open(self, run: RunInfo) -> None:
        self.calls.append("open")

    def _write(self, metrics: Mapping[str, float], step: int) -> None:
        self.reached.set()
        self.let_go.wait()
        self.calls.append((dict(metrics), step))

    def _close(self, record: Mapping[str, Any] | None, status: str) -> None:
        self.calls.append((record, status))

    def _abandon(self) -> None:
        self.calls.append("abandoned")


def test_rows_arrive_in_order_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    tracker, row = Noting(rows=10), {"a": 1.0}
    tracker.start(RUN)
    tracker.log(row, 1)
    row["a"] = 2.0  # what the training does with its row later is no matter
    tracker.log(row, 2)
    tracker.let_go.set()
    tracker.finish({"name": "x"}, "finished")
    assert tracker.calls == ["open", ({"a": 1.0}, 1), ({"a": 2.0}, 2), ({"name": "x"}, "finished")]
    assert not caplog.messages


def test_a_full_queue_drops_rows_and_holds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Noting(rows=2)
    tracker.start(RUN)
    tracker.log({"a": 0.0}, 0)
    assert tracker.reached.wait(30)
    for step in range(1, 7):
        tracker.log({"a": 0.0}, step)
    tracker.let_go.set()
    with caplog.at_level(logging.WARNING):
        tracker.finish(None, "finished")
    assert [call[1] for call in tracker.calls[1:]] == [0, 1, 2, "finished"]
    assert [message for message in caplog.messages if "missed 4 rows" in message]
    assert sum("does not keep up" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("rows", [1, 10])  # with and without room for its end
def test_one_that_does_not_end_is_left_behind(rows: int, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Noting(rows, wait=0.05)
    tracker.start(RUN)
    tracker.log({"a": 0.0}, 0)
    assert tracker.reached.wait(30)
    tracker.log({"a": 0.0}, 1)
    tracker.finish(None, "finished")
    assert tracker.calls == ["open", "abandoned"]
    assert "was abandoned" in caplog.text
    tracker.let_go.set()


def test_one_that_was_never_started_has_nothing_to_end() -> None:
    tracker = Noting(rows=1)
    tracker.finish(None, "failed")
    assert tracker.calls == []
