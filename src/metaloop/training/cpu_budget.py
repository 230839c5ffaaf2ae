"""A callback that keeps what a run has learned after given minutes of processor time, and then stops it."""

import os
from collections.abc import Sequence

from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.errors import UserError
from metaloop.records.directory import BEST, minutes_checkpoint
from metaloop.system.files import replace_atomically
from metaloop.training.checkpoints import Checkpoints
from metaloop.training.outer_module import OuterModule


class CpuBudget(Callback):
    """Keep the best checkpoint so far at each of several marks of processor time, and stop training at the last mark.

    Time is that of outer steps on rank zero's process, all its threads, without meta-validation and start-up. Marks are looked
    at when a checkpoint has been written, that is every ``validation.every`` outer steps; what a mark keeps may have taken
    longer by up to that many steps. The checkpoint itself says how long, as ``cpu_seconds``. A resumed run continues its count.

    Args:
        minutes: Marks in minutes, ascending, above 0.

    Raises:
        UserError: there is no mark, or they do not ascend from above 0.
    """

    def __init__(self, minutes: Sequence[float]) -> None:
        marks = [float(each) for each in minutes]
        if not marks or marks[0] <= 0 or sorted(set(marks)) != marks:
            raise UserError(f"callbacks.cpu_budget.minutes={list(minutes)}: one or more ascending minutes above 0")
        self.minutes = marks

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the budget was spent before the run was killed."""
        assert isinstance(pl_module, OuterModule)
        if pl_module.cpu_seconds >= 60 * self.minutes[-1]:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best checkpoint under the name of each mark that was passed."""
        assert isinstance(pl_module, OuterModule)
        keeper = next(each for each in trainer.callbacks if isinstance(each, Checkpoints))  # type: ignore[attr-defined]
        for mark in self.minutes:
            path = keeper.directory / minutes_checkpoint(mark)
            if pl_module.cpu_seconds >= 60 * mark and trainer.is_global_zero and not path.exists():
                replace_atomically(path, lambda temporary: os.link(keeper.directory / BEST, temporary))
        if pl_module.cpu_seconds >= 60 * self.minutes[-1]:
            trainer.should_stop = True
