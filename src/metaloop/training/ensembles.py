"""The ensemble of a run's best checkpoints."""

import copy
from pathlib import Path

from metaloop.errors import UserError
from metaloop.learners.ensemble import Ensemble
from metaloop.learners.learner import Learner
from metaloop.system.tensors import load_checkpoint
from metaloop.training.checkpoints import top_checkpoints
from metaloop.training.restoring import checked

_PREFIX = "learner."  # of a learner's entries in the state dict of OuterModule


def ensemble(learner: Learner, folder: Path, count: int, fingerprint: str) -> Ensemble:
    """Load a run's best checkpoints into copies of its learner.

    Args:
        learner: Learner built from the run's config, on the device of the test.
        folder: Folder of the checkpoints.
        count: Number that the run kept, or fewer if it had fewer validations.
        fingerprint: Fingerprint of the run's config.

    Raises:
        UserError: the run kept none, or one is of another config.
    """
    paths = top_checkpoints(folder)
    if not paths or len(paths) > count:
        raise UserError(
            f"evaluation.ensemble={count}: {folder} holds {len(paths)} checkpoints for an ensemble; evaluation.ensemble is "
            f"chosen when a run is trained, and 1 tests its best checkpoint"
        )
    members = []
    for path in paths:
        saved = load_checkpoint(path)
        checked(saved, fingerprint, path)
        member = copy.deepcopy(learner)
        member.load_state_dict({n.removeprefix(_PREFIX): v for n, v in saved["state_dict"].items() if n.startswith(_PREFIX)})
        members.append(member)
    return Ensemble(members)
