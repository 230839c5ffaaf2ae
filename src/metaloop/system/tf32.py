"""TensorFloat-32, which torch would use in convolutions unasked and in matrix products not."""

import torch


def allow_tf32(allowed: bool) -> None:
    """Round the inputs of float32 matrix products and convolutions to 10 bits on GPUs that gain speed by it, or nowhere.

    Inner steps and second derivatives carry the rounding on: compare scores before keeping it.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
