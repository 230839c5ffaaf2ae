"""The ways of running tasks and outer steps that a run chose by timing, saved as soon as they are chosen."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.records.typed_json import read_object
from metaloop.system.files import write_atomically
from metaloop.training.stretches.stretches import CHOICE, Stretches


class KeptChoices(Callback):
    """Callback that saves what an ``OverTasks`` and :class:`Stretches` chose, and restores it when the run resumes.

    Checkpoints hold the choices too, but a run may be killed before its first checkpoint. If it chose again on resume, its
    numbers could differ in the last digits from those of a run that was never killed.

    Args:
        path: File that holds the choices.
        over_tasks: The learner's ``OverTasks``.
        stretches: Whether outer steps are taken in stretches; None if they are not.
    """

    def __init__(self, path: Path, over_tasks: OverTasks, stretches: Stretches | None = None) -> None:
        self.path = path
        self.over_tasks = over_tasks
        self.stretches = stretches
        self._kept: dict[str, str] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the choices that the run made before it was killed.

        Raises:
            UserError: the file is broken.
        """
        if self.path.exists():
            kept = self._kept = self._read()
            if self.stretches is not None:
                self.stretches.restore(kept)
            self.over_tasks.restore({name: value for name, value in kept.items() if name != CHOICE})

    def _read(self) -> dict[str, str]:
        try:
            content = read_object(self.path, "choice of how tasks are run")
            if not all(isinstance(value, str) for value in content.values()):
                raise UserError(f"{self.path}: its values must be names of strategies")
        except UserError as error:
            raise UserError(f"{error}; remove the file, and the run chooses again") from error
        return content

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Save the choices for training, which are made at the first step; the file also says that a run has begun."""
        self._keep(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Save the choices for evaluation."""
        self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        choices = self.over_tasks.choices() | (self.stretches.choices() if self.stretches else {})
        if choices != self._kept:
            self._kept = choices
            if trainer.is_global_zero:
                write_atomically(self.path, json.dumps(choices) + "\n")
