"""TensorBoard's files, read by TensorBoard."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metaloop.tracking.tensorboard import TensorBoardTracker
from tracked_runs import RECORD, info, train


def scalars(directory: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_keeps_our_steps_and_forgets_what_a_resumed_run_logs_again(tmp_path: Path) -> None:
    train(TensorBoardTracker(), tmp_path, 5, 20)
    tracker = TensorBoardTracker()
    tracker.start(info(tmp_path, resumed_step=10))
    tracker.log({"train/loss": 7.0}, 15)
    tracker.finish(RECORD, "finished")
    assert scalars(tmp_path, "train/loss") == [(5, pytest.approx(0.2)), (10, pytest.approx(0.1)), (15, 7.0)]
    assert scalars(tmp_path, "test/score") == [(30, pytest.approx(0.9))]
    assert scalars(tmp_path, "test/calibration_error") == [(30, 0.125)]
