"""Checkpoints: written atomically, limited to tensors and plain data, loaded without running code from the file."""

import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.errors import UserError
from metaloop.records.directory import BEST, LAST
from metaloop.system.files import replace_atomically
from metaloop.system.tensors import load_checkpoint, save_tensors
from metaloop.training.outer_module import OuterModule
from metaloop.training.restoring import checked


def top_checkpoint(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint that was kept for an ensemble after outer step ``step``."""
    return folder / f"top-{step}.ckpt"


def top_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that were kept for an ensemble, in the order of their outer steps."""
    return sorted(folder.glob("top-*.ckpt"), key=lambda path: int(path.stem.removeprefix("top-")))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning plugin that saves checkpoints atomically and loads them without running code from the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file, flush it to the disk and rename it."""
        replace_atomically(Path(path), partial(save_tensors, checkpoint))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See :func:`load_checkpoint`."""
        return load_checkpoint(Path(path), map_location or "cpu")


class Checkpoints(Callback):
    """Callback that saves a checkpoint after every meta-validation, keeps the best one, and stops training early.

    :meth:`metaloop.problems.problem.Problem.selection` chooses the metric that decides which is best. The module's
    ``progress`` holds it as ``merit``, where larger is better, and the score after adaptation as ``after``.

    Args:
        directory: Folder of ``last.ckpt`` and ``best.ckpt``.
        fingerprint: Fingerprint of the run's config; a checkpoint of another config is refused.
        patience: Number of validations in a row without a new best after which training stops; None for no early stopping.

        keep: Number of best checkpoints to keep for an ensemble, ``top-STEP.ckpt``; 1 for none beside the best.

    Raises:
        UserError: ``patience`` or ``keep`` is below 1.
    """

    def __init__(self, directory: Path, fingerprint: str, patience: int | None, keep: int = 1) -> None:
        if patience is not None and patience < 1:
            raise UserError(f"validation.patience={patience}: at least 1, or null for no early stopping")
        if keep < 1:
            raise UserError(f"evaluation.ensemble={keep}: at least 1, the best checkpoint alone")
        self.directory = directory
        self.fingerprint = fingerprint
        self.patience = patience
        self.keep = keep
        self.top: list[list[float]] = []  # merit and outer step of the best checkpoints, the best first
        self.best: float | None = None  # merit of the best checkpoint
        self.best_score: float | None = None  # score after adaptation of the best checkpoint
        self.best_step = 0
        self.waited = 0
        self._saved_step = 0

    def state_dict(self) -> dict[str, Any]:
        """State of early stopping."""
        return {
            "best": self.best,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "waited": self.waited,
            "top": self.top,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of early stopping."""
        self.best, self.best_score = state_dict["best"], state_dict["best_score"]
        self.best_step, self.waited = state_dict["best_step"], state_dict["waited"]
        self.top = state_dict.get("top", [])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state that an exact resume needs and Lightning does not save."""
        assert isinstance(pl_module, OuterModule)
        checkpoint["metaloop"] = {
            "fingerprint": self.fingerprint,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "seconds": pl_module.seconds,
            "cpu_seconds": pl_module.cpu_seconds,
            "tasks_done": pl_module.tasks_done,
            "progress": dict(pl_module.progress),
            "is_best": self.best_step == trainer.global_step,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the state that :meth:`on_save_checkpoint` added."""
        assert isinstance(pl_module, OuterModule)
        state = checked(checkpoint, self.fingerprint, self.directory / LAST)
        torch.set_rng_state(state["rng"].cpu())
        if torch.cuda.is_available() and state["cuda_rng"]:
            torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda_rng"]])
        pl_module.seconds, pl_module.tasks_done = state["seconds"], state["tasks_done"]
        pl_module.cpu_seconds = state["cpu_seconds"]
        pl_module.progress |= state["progress"]
        self._saved_step = checkpoint["global_step"]
        if state["is_best"]:  # the run may have been killed between writing the two files
            self._link_best(trainer)
        self._link_top(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the run had already stopped early before it was killed."""
        trainer.should_stop = self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint; Lightning calls this after the meta-validation that ends each epoch."""
        assert isinstance(pl_module, OuterModule)
        if trainer.global_step == self._saved_step:  # after a resume, Lightning ends the saved epoch a second time
            return
        self._check_finite(trainer, pl_module)
        merit = pl_module.progress["merit"]
        better = self.best is None or math.isnan(self.best) or merit > self.best
        self.waited = 0 if better else self.waited + 1
        if better:
            self.best, self.best_score, self.best_step = merit, pl_module.progress["after"], trainer.global_step
        self._add_to_top(merit, trainer.global_step)
        self.directory.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(self.directory / LAST)
        self._saved_step = trainer.global_step
        if better:
            self._link_best(trainer)
        self._link_top(trainer)
        trainer.should_stop = self._out_of_patience

    def _link_best(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            replace_atomically(self.directory / BEST, lambda temporary: os.link(self.directory / LAST, temporary))
        trainer.strategy.barrier("best")  # the other ranks read the file next

    def _add_to_top(self, merit: float, step: int) -> None:
        """Put a checkpoint among the best, of which an earlier one wins a tie."""
        if self.keep > 1:
            ranked = sorted(
                [*self.top, [merit, step]], key=lambda each: (-math.inf if math.isnan(each[0]) else each[0], -each[1])
            )
            self.top = ranked[::-1][: self.keep]

    def _link_top(self, trainer: Trainer) -> None:
        """Keep the last checkpoint if it is among the best, and remove those that no longer are."""
        if self.keep == 1:
            return
        steps = {int(step) for _, step in self.top}
        if trainer.is_global_zero:
            if self._saved_step in steps:
                path = top_checkpoint(self.directory, self._saved_step)
                replace_atomically(path, lambda temporary: os.link(self.directory / LAST, temporary))
            for path in top_checkpoints(self.directory):
                if path not in {top_checkpoint(self.directory, step) for step in steps}:
                    path.unlink()
        trainer.strategy.barrier("top")  # the other ranks read the files next

    def _check_finite(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse parameters that are not finite: the last step's update has not reached any loss yet."""
        broken = [name for name, value in pl_module.named_parameters() if not torch.isfinite(value).all()]
        if broken:
            raise UserError(
                f"{broken[0].removeprefix('learner.')} is not finite after outer step {trainer.global_step - 1}, so no "
                f"checkpoint was written; {self.last_good()}. Lower outer.optimizer.lr or algorithm.rule.lr, or clip with "
                f"trainer.gradient_clip_val=10"
            )

    def last_good(self) -> str:
        """Name the last good checkpoint in words, for error messages."""
        path = self.directory / LAST
        return f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
