"""Progress of meta-training, meta-validation and meta-test: bars on a terminal, and a line in the log from time to time."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from metaloop.problems.metric import Metric
from metaloop.training.bars import Bars
from metaloop.training.datamodule import EvalLoader
from metaloop.types import Tasks

log = logging.getLogger(__name__)

_BAR_SECONDS = 0.25  # between two updates of a bar
_LINE_SECONDS = 20.0  # least time between two lines of the log
_LINE_SHARE = 0.1  # least share of all outer steps between two lines of the log
_TRAINING, _VALIDATION = "outer step", "meta-validation"


class ShowsProgress:
    """A Lightning module whose numbers :class:`Progress` shows.

    Attributes:
        progress: any of the keys ``tasks_per_second``, ``loss``, ``score``, ``before`` and ``after``.
    """

    progress: Mapping[str, float]


class Progress(Callback):
    """Callback that shows outer step, time left, tasks/s, outer loss, and training and validation scores on rank zero.

    Meta-validation and meta-test have bars of their own. The numbers are those of a module that is :class:`ShowsProgress`.
    Between two updates a step costs one reading of the clock.

    Args:
        metric: Metric that formats the scores.
        console: Console to draw on; None for standard error.
        scored: What Lightning's test scores.
    """

    def __init__(self, metric: Metric, console: Console | None = None, scored: str = "meta-test") -> None:
        self._metric = metric
        self._name = scored
        console = console or Console(stderr=True)
        self._bars = Bars(console) if console.is_terminal else None
        self._due = self._line_due = float("inf")  # readings of the clock
        self._last_line_step, self._next_line_step = -1, 0
        self._scored, self._scoring_due, self._scoring_total = 0, float("inf"), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar at the first outer step, which is not 0 in a resumed run."""
        if not trainer.is_global_zero:
            return
        step, total = trainer.global_step, _total(trainer)
        self._due = time.monotonic()
        self._line_due, self._next_line_step = self._due + _LINE_SECONDS, step + _line_steps(total)
        if self._bars is None:
            self._due = self._line_due
        else:
            self._bars.open(_TRAINING, step, total, _text(_numbers(pl_module), self._metric))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar or the log when the next update is due."""
        now = time.monotonic()
        if now >= self._due:
            self._update(trainer, pl_module, now)

    def _update(self, trainer: Trainer, pl_module: LightningModule, now: float) -> None:
        step = trainer.global_step
        if self._bars is None:
            self._due = max(self._line_due, now + 1.0)
        else:
            self._due = now + _BAR_SECONDS
            self._bars.update(_TRAINING, step, _text(_numbers(pl_module), self._metric))
        if now >= self._line_due and step >= self._next_line_step:
            self._line_due = now + _LINE_SECONDS
            self._due = self._due if self._bars else self._line_due
            self._log(trainer, pl_module)

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step, total = trainer.global_step, _total(trainer)
        self._last_line_step, self._next_line_step = step, step + _line_steps(total)
        log.info("outer step %d of %s: %s", step, total or "?", _text(_numbers(pl_module), self._metric))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last state, which stays on the screen, and log it."""
        if self._due < float("inf") and trainer.global_step != self._last_line_step:
            self._log(trainer, pl_module)
        if self._bars is not None:
            self._bars.update(_TRAINING, trainer.global_step, _text(_numbers(pl_module), self._metric))
        self._stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar of the validation episodes."""
        self._start_scoring(_VALIDATION, trainer, trainer.val_dataloaders)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        """Count the episodes."""
        self._count(_VALIDATION, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar of the validation episodes."""
        self._end_scoring(_VALIDATION)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar of the test episodes."""
        self._start_scoring(self._name, trainer, trainer.test_dataloaders)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *rest: Any) -> None:
        """Count the episodes."""
        self._count(self._name, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar of the test episodes as it is."""
        self._end_scoring(self._name)

    def _start_scoring(self, name: str, trainer: Trainer, loader: Any) -> None:
        if not (trainer.is_global_zero and isinstance(loader, EvalLoader)):
            return
        self._scored, self._scoring_total = 0, loader.share
        self._scoring_due = time.monotonic() + (_LINE_SECONDS if self._bars is None else 0.0)
        if self._bars is not None:
            self._bars.open(name, 0, self._scoring_total)

    def _count(self, name: str, batch: Any) -> None:
        self._scored += len(batch) if isinstance(batch, Tasks) else 0
        now = time.monotonic()
        if now < self._scoring_due:
            return
        if self._bars is None:
            self._scoring_due = now + _LINE_SECONDS
            log.info("%s: %d of %d episodes", name, self._scored, self._scoring_total)
        else:
            self._scoring_due = now + _BAR_SECONDS
            self._bars.update(name, self._scored)

    def _end_scoring(self, name: str) -> None:
        self._scoring_due = float("inf")
        if self._bars is not None:
            self._bars.update(name, self._scored)
            self._bars.close(name)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the terminal before the error message is printed."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the terminal if that has not been done yet."""
        self._stop()

    def _stop(self) -> None:
        self._due = self._scoring_due = float("inf")
        if self._bars is not None:
            self._bars.release()


def _total(trainer: Trainer) -> int | None:
    return trainer.max_steps if trainer.max_steps > 0 else None


def _line_steps(total: int | None) -> int:
    return max(1, int((total or 0) * _LINE_SHARE))


def _numbers(pl_module: LightningModule) -> Mapping[str, float]:
    return pl_module.progress if isinstance(pl_module, ShowsProgress) else {}


def _text(numbers: Mapping[str, float], metric: Metric) -> str:
    """Format such as ``812 tasks/s, loss 0.532, accuracy 87.10 %, validation 21.34 → 90.51 %``, without missing numbers."""
    parts = []
    if "tasks_per_second" in numbers:
        parts.append(f"{numbers['tasks_per_second']:,.0f} tasks/s")
    if "loss" in numbers:
        parts.append(f"loss {numbers['loss']:.3f}")
    if "score" in numbers:
        parts.append(f"{metric.title} {metric.with_unit(metric.number(numbers['score']))}")
    if "after" in numbers:
        before = f"{metric.number(numbers['before'])} → " if "before" in numbers else ""
        parts.append(f"validation {before}{metric.with_unit(metric.number(numbers['after']))}")
    return ", ".join(parts)
