"""Checkpoints that are written whole or not at all, hold tensors and plain data, and are never unpickled."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.errors import UserError
from metaloop.records.directory import BEST, LAST
from metaloop.system.files import replace_atomically
from metaloop.training.outer_module import OuterModule


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's content, loaded as tensors and plain data only.

    Raises:
        UserError: there is none, or it is corrupt or holds other objects.
    """
    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except FileNotFoundError as error:
        raise UserError(f"no checkpoint at {path}: the run was stopped before its first one; start it anew") from error
    except Exception as error:  # damage shows as many kinds of error, IndexError among them
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"{path} is no readable checkpoint of tensors and plain data, so it was not loaded ({reason})"
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """What Lightning saves and loads checkpoints by."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file, flush it to the disk, rename it."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # torch's own file turns a full disk into a RuntimeError
                torch.save(checkpoint, file)

        replace_atomically(Path(path), write)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See :func:`load_checkpoint`."""
        return load_checkpoint(Path(path), map_location or "cpu")


class Checkpoints(Callback):
    """Saves every stretch, keeps the best by meta-validation, and stops early where asked.

    What is best is the problem's choice, see :meth:`metaloop.problems.problem.Problem.selection`; the module's progress holds
    it as ``merit``, which is better when larger, beside the score ``after`` adaptation.

    Args:
        directory: for ``last.ckpt`` and ``best.ckpt``.
        fingerprint: of the run's config; a checkpoint of another config is refused.
        patience: validations without a better one after which training stops; None for never.
    """

    def __init__(self, directory: Path, fingerprint: str, patience: int | None) -> None:
        if patience is not None and patience < 1:
            raise UserError(f"validation.patience={patience}: at least 1, or null for no early stopping")
        self.directory = directory
        self.fingerprint = fingerprint
        self.patience = patience
        self.best: float | None = None  # merit of the best
        self.best_score: float | None = None  # the score there
        self.best_step = 0
        self.waited = 0
        self._saved_step = 0

    def state_dict(self) -> dict[str, Any]:
        """What early stopping remembers."""
        return {"best": self.best, "best_score": self.best_score, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.best, self.best_score = state_dict["best"], state_dict["best_score"]
        self.best_step, self.waited = state_dict["best_step"], state_dict["waited"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what an exact resume needs beside Lightning's own."""
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
        """Restore it."""
        assert isinstance(pl_module, OuterModule)
        own = checked(checkpoint, self.fingerprint, self.directory / LAST)
        torch.set_rng_state(own["rng"].cpu())
        if torch.cuda.is_available() and own["cuda_rng"]:
            torch.cuda.set_rng_state_all([state.cpu() for state in own["cuda_rng"]])
        pl_module.seconds, pl_module.tasks_done = own["seconds"], own["tasks_done"]
        pl_module.cpu_seconds = own.get("cpu_seconds", 0.0)  # older checkpoints have none
        pl_module.progress |= own["progress"]
        self._saved_step = checkpoint["global_step"]
        if own["is_best"]:  # the run may have been killed between the two files
            self._link_best(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was killed after it had stopped early does not train on."""
        trainer.should_stop = self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; this comes after the stretch's validation."""
        assert isinstance(pl_module, OuterModule)
        if trainer.global_step == self._saved_step:  # Lightning ends the resumed checkpoint's epoch once more
            return
        self._check_finite(trainer, pl_module)
        merit = pl_module.progress["merit"]
        better = self.best is None or math.isnan(self.best) or merit > self.best
        self.waited = 0 if better else self.waited + 1
        if better:
            self.best, self.best_score, self.best_step = merit, pl_module.progress["after"], trainer.global_step
        self.directory.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(self.directory / LAST)
        self._saved_step = trainer.global_step
        if better:
            self._link_best(trainer)
        trainer.should_stop = self._out_of_patience

    def _link_best(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            replace_atomically(self.directory / BEST, lambda temporary: os.link(self.directory / LAST, temporary))
        trainer.strategy.barrier("best")  # the other ranks will read it

    def _check_finite(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The loss is watched elsewhere, but what the last step made of the parameters is not in any loss yet."""
        broken = [name for name, value in pl_module.named_parameters() if not torch.isfinite(value).all()]
        if broken:
            raise UserError(
                f"{broken[0].removeprefix('learner.')} is not finite after outer step {trainer.global_step - 1}, so no "
                f"checkpoint was written; {self.last_good()}. Lower outer.optimizer.lr or algorithm.rule.lr, or clip with "
                f"trainer.gradient_clip_val=10"
            )

    def last_good(self) -> str:
        """Which checkpoint a run that went wrong leaves, for messages."""
        path = self.directory / LAST
        return f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"


def checked(checkpoint: Mapping[str, Any], fingerprint: str, path: Path) -> Mapping[str, Any]:
    """The project's own part of a checkpoint.

    Raises:
        UserError: it was written by something else, or by a run of another config.
    """
    own = checkpoint.get("metaloop")
    if not isinstance(own, Mapping) or "fingerprint" not in own:
        raise UserError(f"{path} was not written by this project")
    if own["fingerprint"] != fingerprint:
        raise UserError(f"{path} belongs to a run of another config; take a checkpoint of this run, or start a new run")
    return own
