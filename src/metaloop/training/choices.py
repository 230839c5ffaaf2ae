"""What a run chose by timing, kept from the moment it was chosen."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.system.files import write_atomically


class KeptChoices(Callback):
    """Writes an ``OverTasks``' choices to a file beside the run, and takes them up from there.

    Checkpoints hold them, too; but a run that is killed before its first one must not choose anew when it goes on, or its
    numbers would differ in the last digits from those of a run that was never killed.

    Args:
        path: the file.
        over_tasks: of the learner.
    """

    def __init__(self, path: Path, over_tasks: OverTasks) -> None:
        self.path = path
        self.over_tasks = over_tasks
        self._kept: dict[str, str] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up what the run chose before it was killed."""
        if self.path.exists():
            self._kept = json.loads(self.path.read_text())
            self.over_tasks.restore(self._kept)

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Keep what the step chose; training chooses at its first."""
        self._keep(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Keep what evaluation chose."""
        self._keep(trainer)

    def _keep(self, trainer: Trainer) -> None:
        choices = self.over_tasks.choices()
        if choices != self._kept:
            self._kept = choices
            if trainer.is_global_zero:
                write_atomically(self.path, json.dumps(choices) + "\n")
