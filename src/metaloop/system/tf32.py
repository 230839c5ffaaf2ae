"""Use of TensorFloat-32, which torch allows by default in convolutions but not in matrix products."""

import torch


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid float32 matrix products and convolutions with inputs rounded to 10 bits, which is faster on some GPUs.

    Inner steps and second derivatives pass the rounding on, so compare scores before using it.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
