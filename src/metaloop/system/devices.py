"""What a trainer's config asks of this machine, checked before anything is built."""

from collections.abc import Mapping
from typing import Any

import torch

from metaloop.errors import UserError

Config = Mapping[str, Any]


def ranks_of(config: Config) -> int:
    """How many processes the trainer wants on this machine.

    Raises:
        UserError: a GPU is asked for and there is none, or not as many; or they cannot share a meta-batch.
    """
    ranks, meta_batch = _devices(config["trainer"]), config["outer"]["meta_batch"]
    if meta_batch % ranks:
        raise UserError(f"outer.meta_batch={meta_batch} cannot be shared by {ranks} ranks: make it a multiple of them")
    return ranks


def _devices(trainer: Config) -> int:
    wanted, accelerator = trainer.get("devices", 1), trainer.get("accelerator", "auto")
    if accelerator in ("gpu", "cuda"):
        have = torch.cuda.device_count()
        if not have or (isinstance(wanted, int) and wanted > have):
            raise UserError(
                f"trainer.accelerator={accelerator}, devices={wanted}: this machine has {have} GPUs; "
                f"take trainer=cpu or fewer devices"
            )
        wanted = have if wanted in (-1, "auto") else wanted
    return len(wanted) if isinstance(wanted, list) else wanted if isinstance(wanted, int) and wanted > 0 else 1


def check_precision(trainer: Config) -> None:
    """Raise a UserError where a CPU is asked for fp16: Lightning would quietly take bf16."""
    if str(trainer.get("precision")) in ("16-mixed", "16") and trainer.get("accelerator") == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; on the CPU take bf16-mixed or 32-true")
