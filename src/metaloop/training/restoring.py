"""A learner's parameters from a checkpoint, without Lightning, which would take longer to import than to predict."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.system.tensors import load_checkpoint

_PREFIX = "learner."  # of a learner's parameters in a checkpoint


def load_parameters(learner: Learner, fingerprint: str, checkpoint: Path) -> None:
    """Load a checkpoint's parameters into a learner.

    Args:
        learner: Learner built from the run's config.
        fingerprint: Fingerprint of the run's config.
        checkpoint: File of the checkpoint.

    Raises:
        UserError: the checkpoint is missing, corrupt, or of another config.
    """
    saved = load_checkpoint(checkpoint)
    checked(saved, fingerprint, checkpoint)
    state = {name.removeprefix(_PREFIX): value for name, value in saved["state_dict"].items()}
    try:
        learner.load_state_dict(_without_averages(state, set(learner.state_dict())))
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit the model: {' '.join(str(error).split())[:300]}") from error


def checked(checkpoint: Mapping[str, Any], fingerprint: str, path: Path) -> Mapping[str, Any]:
    """Check that a checkpoint belongs to a run and return the part that metaloop added.

    Raises:
        UserError: the checkpoint was not written by metaloop, or by a run of another config.
    """
    state = checkpoint.get("metaloop")
    if not isinstance(state, Mapping) or "fingerprint" not in state:
        raise UserError(f"{path} was not written by metaloop")
    if state["fingerprint"] != fingerprint:
        raise UserError(f"{path} belongs to a run of another config; use a checkpoint of this run, or start a new run")
    return state


def _without_averages(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Leave out running averages that norm layers in another mode (``model.norm`` of an evaluation) do not have."""
    return {n: value for n, value in state.items() if n in wanted or not n.endswith((".running_mean", ".running_var"))}
