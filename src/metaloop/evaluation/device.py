"""The device of a restored run."""

from collections.abc import Mapping
from typing import Any

import torch

from metaloop.training.processes.set_up import set_up


def set_up_device(config: Mapping[str, Any]) -> torch.device:
    """Set up the process for the config and choose the device; a run from a GPU uses the CPU if there is no GPU."""
    set_up(tf32=config["tf32"])
    on_gpu = config["trainer"].get("accelerator") in ("gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")
