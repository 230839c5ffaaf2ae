"""The progress bar, the lines in its place, and that it costs nothing between two updates."""

import io
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from rich.console import Console
from torch.utils.data import DataLoader

from metaloop.problems.metric import ACCURACY
from metaloop.training import progress
from metaloop.training.datamodule import EvalLoader
from metaloop.training.progress import Progress, ShowsProgress
from metaloop.types import Examples, Tasks

NUMBERS = {"tasks_per_second": 812.4, "loss": 0.5321, "score": 0.871, "before": 0.2134, "after": 0.9051}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test moves."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, legacy_windows=False)


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def trainer(step: int = 0, rank_zero: bool = True) -> Any:
    return SimpleNamespace(global_step=step, max_steps=1000, is_global_zero=rank_zero)


def module(numbers: dict[str, float]) -> Any:
    """A module that shows these numbers, without the rest of Lightning's module."""
    shown = ShowsProgress()
    shown.progress = numbers
    return shown


def end_step(callback: Progress, at: Any, module: Any) -> None:
    callback.on_train_batch_end(at, module, None, None, 0)


class Tiny(LightningModule, ShowsProgress):
    """A model of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.progress: dict[str, float] = {}

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if batch_idx == 13:
            raise RuntimeError("unlucky")
        self.progress = dict(NUMBERS)
        return (self.weight - batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, under newer versions of torch
@pytest.mark.parametrize("steps", [5, 20])
def test_a_real_run_shows_its_numbers_and_gives_the_terminal_back(steps: int) -> None:
    to = console(terminal=True)
    streams = sys.stdout, sys.stderr
    runner = Trainer(
        max_steps=steps,
        callbacks=[Progress(ACCURACY, to)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    loader = DataLoader(torch.ones(32, 1))
    if steps > 13:
        with pytest.raises(RuntimeError, match="unlucky"):
            runner.fit(Tiny(), loader)
    else:
        runner.fit(Tiny(), loader)
        last = written(to).rsplit("outer step", 1)[1]
        assert "5/5" in last
        assert "812 tasks/s, loss 0.532, accuracy 87.10 %, validation 21.34 → 90.51 %" in last
    assert (sys.stdout, sys.stderr) == streams
    assert written(to).count("\x1b[?25l") == written(to).count("\x1b[?25h") == 1  # the cursor hidden, and shown again


def test_between_two_updates_nothing_but_the_clock_is_looked_at(clock: SimpleNamespace) -> None:
    to = console(terminal=True)
    callback = Progress(ACCURACY, to)
    shown = module({})
    callback.on_train_start(trainer(400), shown)
    assert "400/1000" in written(to)
    end_step(callback, trainer(401), shown)
    end_step(callback, None, None)  # would fail if it looked
    clock.seconds += 0.3
    with pytest.raises(AttributeError):
        end_step(callback, None, None)
    callback.on_train_end(trainer(402), shown)
    assert "402/1000" in written(to)


def test_other_ranks_show_nothing(clock: SimpleNamespace) -> None:
    to = console(terminal=True)
    callback = Progress(ACCURACY, to)
    callback.on_train_start(trainer(0, rank_zero=False), None)
    clock.seconds += 1000
    end_step(callback, None, None)
    callback.on_train_end(trainer(0, rank_zero=False), None)
    assert written(to) == ""


def test_without_a_terminal_a_line_now_and_then(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=progress.__name__)
    to = console(terminal=False)
    callback = Progress(ACCURACY, to)
    shown = module(NUMBERS)
    callback.on_train_start(trainer(300), shown)
    for step in range(301, 1001):  # two steps a second: a tenth of all steps takes 50 s
        clock.seconds += 0.5
        end_step(callback, trainer(step), shown)
    callback.on_train_end(trainer(1000), shown)
    steps = [int(message.split()[2]) for message in caplog.messages]
    assert written(to) == ""
    assert len(steps) == 7
    assert all(100 <= later - sooner <= 110 for sooner, later in zip([300, *steps], steps, strict=False))
    assert "of 1000: 812 tasks/s, loss 0.532" in caplog.messages[0]


def test_fast_runs_print_lines_at_least_twenty_seconds_apart(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=progress.__name__)
    callback = Progress(ACCURACY, console(terminal=False))
    shown = module({})
    callback.on_train_start(trainer(0), shown)
    for step in range(1, 1001):
        clock.seconds += 0.05
        end_step(callback, trainer(step), shown)
    assert len(caplog.messages) == 2


def scored(callback: Progress, at: Any, name: str, clock: SimpleNamespace, seconds: float) -> None:
    """A meta-validation or meta-test of twelve episodes in batches of four, each of which takes so many seconds."""
    loader = EvalLoader(None, 12, 4, torch.device("cpu"), 0, 1)  # type: ignore[arg-type]
    at.val_dataloaders = at.test_dataloaders = loader
    examples = Examples(torch.zeros(4, 1, 1), torch.zeros(4, 1, dtype=torch.long), None, 3)
    batch = Tasks(examples, examples, torch.arange(4))
    start, count, end = {
        "meta-validation": (callback.on_validation_start, callback.on_validation_batch_end, callback.on_validation_end),
        "meta-test": (callback.on_test_start, callback.on_test_batch_end, callback.on_test_end),
    }[name]
    start(at, None)  # type: ignore[arg-type]
    for number in range(3):
        clock.seconds += seconds
        count(at, None, None, batch, number)  # type: ignore[arg-type]
    end(at, None)  # type: ignore[arg-type]


def test_F18_meta_validation_and_meta_test_have_bars(clock: SimpleNamespace) -> None:
    to = console(terminal=True)
    callback, at = Progress(ACCURACY, to), trainer(400)
    callback.on_train_start(at, module({}))
    scored(callback, at, "meta-validation", clock, 1.0)
    assert "0/12" in written(to).split("meta-validation", 1)[1]
    callback.on_train_end(at, module({}))
    scored(callback, at, "meta-test", clock, 1.0)
    last = written(to).rsplit("meta-test", 1)[1]
    assert "12/12" in last
    assert written(to).count("\x1b[?25l") == written(to).count("\x1b[?25h") == 2  # the terminal was given back twice


def test_F18_long_meta_tests_log_lines_and_short_ones_none(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=progress.__name__)
    callback = Progress(ACCURACY, console(terminal=False))
    scored(callback, trainer(), "meta-test", clock, 1.0)
    assert caplog.messages == []
    scored(callback, trainer(), "meta-test", clock, 15.0)
    assert caplog.messages == ["meta-test: 8 of 12 episodes"]


@pytest.mark.parametrize("terminal", [True, False])
def test_F18_the_log_has_the_last_scores(terminal: bool, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=progress.__name__)
    callback = Progress(ACCURACY, console(terminal))
    callback.on_train_start(trainer(0), module({}))
    callback.on_train_end(trainer(1000), module(NUMBERS))
    assert caplog.messages == ["outer step 1000 of 1000: 812 tasks/s, loss 0.532, accuracy 87.10 %, validation 21.34 → 90.51 %"]


def test_log_lines_pass_above_the_bar(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    to = console(terminal=True)
    callback = Progress(ACCURACY, to)
    try:
        callback.on_train_start(trainer(0), module({}))
        logging.getLogger().warning("something happened")
        assert "something happened" in written(to)
        assert terminal.getvalue() == ""
        callback.on_exception(trainer(0), None, KeyboardInterrupt())  # type: ignore[arg-type]
        assert handler.stream is terminal
    finally:
        logging.getLogger().removeHandler(handler)


def test_what_is_not_known_yet_is_left_out(clock: SimpleNamespace) -> None:
    to = console(terminal=True)
    callback = Progress(ACCURACY, to)
    callback.on_train_start(trainer(0), module({"loss": 2.0, "after": 0.5}))
    callback.teardown(trainer(0), None, "fit")  # type: ignore[arg-type]
    assert "loss 2.000, validation 50.00 %" in written(to)
    assert "accuracy" not in written(to)
