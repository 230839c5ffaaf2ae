"""The rows, record and identity of a run, as trackers get them."""

from pathlib import Path

from metaloop.tracking.tracker import RunInfo, Tracker

RECORD = {
    "training": {"steps": 30, "tasks_per_second": 812.5, "over_tasks": "loop"},
    "test": {
        "metric": "accuracy",
        "mean": 0.9,
        "half_width": 0.01,
        "episodes": 600,
        "others": {
            "loss": {"mean": 0.25, "half_width": 0.02},
            "calibration_error": {"mean": 0.125, "half_width": None},
        },
        "curve": [{"step": 0, "mean": 0.25, "half_width": 0.02}, {"step": 5, "mean": 0.9, "half_width": None}],
    },
}


def info(directory: Path, resumed_step: int = 0) -> RunInfo:
    config = {"seed": 3, "trainer": {"max_steps": 30}, "paper": None}
    return RunInfo(directory, "maml_glyphs", "sweep_7", {"algorithm": "maml"}, config, resumed_step)


def train(tracker: Tracker, directory: Path, first: int, last: int, resumed_step: int = 0) -> None:
    """Log a row every 5 steps and a validation row every 10."""
    tracker.start(info(directory, resumed_step))
    for step in range(first, last + 1, 5):
        tracker.log({"train/loss": 1 / step, "train/score": 0.1 * step}, step)
        if step % 10 == 0:
            tracker.log({"validation/score": 0.5 + step / 1000}, step)
    tracker.finish(None, "finished")
