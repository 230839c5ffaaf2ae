"""Set-up of a process that trains, tests or predicts, the same for every command."""

import logging
import warnings

from metaloop.system.devices import allow_tf32


def set_up(*, tf32: bool) -> None:
    """Silence Lightning's messages and allow or forbid TensorFloat-32 (config key ``tf32``)."""
    allow_tf32(tf32)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # drawing episodes needs no workers
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # Slurm is installed but not used
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")  # Lightning uses a deprecated name of torch
