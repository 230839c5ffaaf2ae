"""Checks, before anything is built, that this machine has the devices that a trainer's config needs."""

from collections.abc import Mapping
from typing import Any

import torch

from metaloop.errors import UserError

Config = Mapping[str, Any]


def ranks_of(config: Config) -> int:
    """Number of processes that the trainer needs on this machine.

    Raises:
        UserError: the machine has too few GPUs, or the processes cannot share a meta-batch equally.
    """
    ranks, meta_batch = _devices(config["trainer"]), config["outer"]["meta_batch"]
    if meta_batch % ranks:
        raise UserError(f"outer.meta_batch={meta_batch} cannot be shared by {ranks} ranks: set it to a multiple of {ranks}")
    return ranks


def check_world(config: Config, started: int) -> None:
    """Check that the trainer takes part with all ranks that torchrun has started.

    Raises:
        UserError: it has another number of ranks; each would train alone, in one directory.
    """
    trainer = config["trainer"]
    devices, nodes = _devices(trainer), trainer.get("num_nodes", 1)
    if devices * nodes != started:
        raise UserError(
            f"torchrun has started {started} ranks, but trainer.devices={trainer.get('devices', 1)} on {nodes} nodes "
            f"(trainer.num_nodes) are {devices * nodes}: choose trainer=ddp or trainer=ddp_cpu and set +trainer.num_nodes and "
            f"trainer.devices, or start without torchrun"
        )


def _devices(trainer: Config) -> int:
    devices, accelerator = trainer.get("devices", 1), trainer.get("accelerator", "auto")
    if accelerator in ("gpu", "cuda"):
        available = torch.cuda.device_count()
        if not available or (isinstance(devices, int) and devices > available):
            raise UserError(
                f"trainer.accelerator={accelerator}, trainer.devices={devices}: this machine has {available} GPUs; "
                f"use trainer=cpu or set trainer.devices to at most that number"
            )
        devices = available if devices in (-1, "auto") else devices
    return len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) and devices > 0 else 1


def check_precision(trainer: Config) -> None:
    """Raise a UserError for fp16 on a CPU, where Lightning would use bf16 without an error."""
    if str(trainer.get("precision")) in ("16-mixed", "16") and trainer.get("accelerator") == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; on the CPU use bf16-mixed or 32-true")


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid TensorFloat-32: float32 products and convolutions with inputs rounded to 10 bits, faster on some GPUs.

    torch allows it by default in convolutions but not in matrix products. Inner steps and second derivatives pass the rounding
    on, so compare scores before using it.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
