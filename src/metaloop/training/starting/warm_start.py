"""Start a run with the parameters of another one, or of a file of weights."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.records.directory import BEST
from metaloop.system.tensors import load_checkpoint

log = logging.getLogger(__name__)
_PREFIXES = ("", "learner.", "model.")  # of names in a checkpoint of a run, and in a file of a network's weights


def warm_start(learner: Learner, source: Path) -> None:
    """Copy parameters and buffers of the same name and shape into the learner, and log how many there are.

    Args:
        learner: Learner of the new run.
        source: Run directory, whose best checkpoint is read; or a file of tensors by name, such as a model's ``state_dict``.

    Raises:
        UserError: The file cannot be read, or nothing in it fits.
    """
    path = source / "checkpoints" / BEST if source.is_dir() else source
    content = load_checkpoint(path)
    stored = content.get("state_dict", content)
    own = {name: value for name, value in learner.state_dict().items() if isinstance(value, Tensor)}
    fitting = {name: value for name, target in own.items() if (value := _stored(stored, name, target)) is not None}
    if not fitting:
        raise UserError(
            f"start_from={source}: none of its {len(stored)} entries has the name and shape of one of the learner's "
            f"{len(own)} tensors; choose the same algorithm and model, or leave start_from out"
        )
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    fresh = [name for name in own if name not in fitting]
    log.info("start_from=%s: %d of %d tensors are taken from it", source, len(fitting), len(own))
    if fresh:
        log.warning("start_from=%s: %s start anew, it has none of their name and shape", source, ", ".join(fresh))


def _stored(stored: dict[str, object], name: str, target: Tensor) -> Tensor | None:
    """The entry for a tensor of the learner; None if none has its shape."""
    for candidate in (*(f"{prefix}{name}" for prefix in _PREFIXES), name.removeprefix("model.")):
        value = stored.get(candidate)
        if isinstance(value, Tensor) and value.shape == target.shape:
            return value
    return None
