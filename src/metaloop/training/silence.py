"""What Lightning says of itself, kept off the screen."""

import logging
import warnings


def quieten() -> None:
    """Leave Lightning's warnings about a run, but not its news, hints, and faults that are none of the user's."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # episodes need none
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # a Slurm that a run does not use
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")  # Lightning's use of torch
