"""Summary of a split of examples, by which a run knows its data again."""

import hashlib
from collections.abc import Mapping

import torch

from metaloop.records.contents import SplitContents
from metaloop.types import Inputs

_HASHED = 2**26  # bytes of a split's examples that are hashed; of more, every k-th example


def split_contents(classes: Mapping[str, int], inputs: Inputs) -> SplitContents:
    """Summarize a split.

    Args:
        classes: Number of examples of each class, in order.
        inputs: All examples, (examples, *input) or a mapping of such tensors. If they take more than 64 MiB, every k-th one is
            hashed, so that opening a large data set stays fast.
    """
    digest = hashlib.sha256(repr(tuple(classes.items())).encode())
    for name, tensor in sorted(({"": inputs} if isinstance(inputs, torch.Tensor) else inputs).items()):
        stride = max(1, -(-tensor.nbytes // _HASHED))
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor[::stride].contiguous().cpu().view(torch.uint8).numpy().data)
    return SplitContents(dict(classes), digest.hexdigest())
