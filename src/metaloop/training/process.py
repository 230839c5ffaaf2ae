"""How a process that trains or tests is set up: the same for every command."""

import logging
import warnings

from metaloop.system.tf32 import allow_tf32


def set_up(*, tf32: bool) -> None:
    """Keep Lightning's news off the screen, and allow or forbid TensorFloat-32 (the config's key ``tf32``)."""
    allow_tf32(tf32)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # episodes need none
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # a Slurm that a run does not use
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")  # Lightning's use of torch
