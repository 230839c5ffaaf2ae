"""Progress of meta-training: a bar on a terminal, otherwise a line in the log from time to time."""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from metaloop.problems.metric import Metric

log = logging.getLogger(__name__)

_BAR_SECONDS = 0.25  # between two updates of the bar
_LINE_SECONDS = 20.0  # least time between two lines of the log
_LINE_SHARE = 0.1  # least share of all outer steps between two lines of the log


class ShowsProgress:
    """A Lightning module whose numbers :class:`Progress` shows.

    Attributes:
        progress: any of the keys ``tasks_per_second``, ``loss``, ``score``, ``before`` and ``after``.
    """

    progress: Mapping[str, float]


class Progress(Callback):
    """Callback that shows outer step, time left, tasks/s, outer loss, and training and validation scores on rank zero.

    The numbers are those of a module that is :class:`ShowsProgress`. Between two updates a step costs one reading of the clock.

    Args:
        metric: Metric that formats the scores.
        console: Console to draw on; None for standard error.
    """

    def __init__(self, metric: Metric, console: Console | None = None) -> None:
        self._metric = metric
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._task: Any = None
        self._due = float("inf")
        self._next_line_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar at the first outer step, which is not 0 in a resumed run."""
        if not trainer.is_global_zero:
            return
        step, total = trainer.global_step, _total(trainer)
        self._due = time.monotonic()
        if not self._console.is_terminal:
            self._due += _LINE_SECONDS
            self._next_line_step = step + _line_steps(total)
            return
        self._bar = _bar(self._console)
        self._task = self._bar.add_task(
            "outer step", completed=step, total=total, text=_text(_numbers(pl_module), self._metric)
        )
        self._bar.start()
        self._handlers = _through_the_bar()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar or the log when the next update is due."""
        now = time.monotonic()
        if now >= self._due:
            self._update(trainer, pl_module, now)

    def _update(self, trainer: Trainer, pl_module: LightningModule, now: float) -> None:
        step = trainer.global_step
        if self._bar is not None:
            self._due = now + _BAR_SECONDS
            self._bar.update(self._task, completed=step, text=_text(_numbers(pl_module), self._metric))
        elif step >= self._next_line_step:
            total = _total(trainer)
            self._due = now + _LINE_SECONDS
            self._next_line_step = step + _line_steps(total)
            log.info("outer step %d of %s: %s", step, total or "?", _text(_numbers(pl_module), self._metric))
        else:
            self._due = now + 1.0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last state, which stays on the screen."""
        if self._bar is not None:
            self._update(trainer, pl_module, time.monotonic())
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the terminal before the error message is printed."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the terminal if that has not been done yet."""
        self._stop()

    def _stop(self) -> None:
        self._due = float("inf")
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers = []
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),  # piped output must not go to the terminal
    )


def _through_the_bar() -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Redirect log handlers that were made before the bar, so that their lines appear above it.

    Returns:
        The handlers that were changed, each with its former stream.
    """
    changed = []
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stdout__, sys.__stderr__):
            redirected = sys.stdout if handler.stream is sys.__stdout__ else sys.stderr
            changed.append((handler, handler.setStream(redirected)))
    return [(handler, stream) for handler, stream in changed if stream is not None]


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
