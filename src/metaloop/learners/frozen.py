"""A network that never changes, as what makes features of examples."""

import hashlib

import torch
from torch import Tensor, nn

from metaloop.data.encoded import Encoder
from metaloop.errors import UserError
from metaloop.models.norm import norm_mode
from metaloop.types import Inputs

_VERSION = 1  # raise it when features are made otherwise


def frozen_encoder(model: nn.Module, settings: str, device: torch.device) -> Encoder:
    """The encoder that a network without a head is.

    Args:
        model: answers (examples, features); ``model.features`` says how many. It is put on ``device``, in evaluation mode.
            ``model.described()``, if it can, tells what its answers depend on beside weights and ``settings``.
        settings: of the model.
        device: where it computes.

    Raises:
        UserError: its answers depend on which examples it sees together.
    """
    shared = {"batch", "support"} & set(norm_mode(model).split("+"))
    if shared:
        raise UserError(
            f"model.norm={shared.pop()} lets features depend on the batch, so they cannot be made once; take running"
        )
    model = model.to(device).eval().requires_grad_(requires_grad=False)

    def encode(x: Inputs) -> Tensor:
        with torch.no_grad():
            return model(x).flatten(1).float()

    described = getattr(model, "described", str)()
    key, weights = hashlib.sha256(f"{_VERSION} {settings} {described}".encode()), hashlib.sha256()
    for name, value in model.state_dict().items():
        for digest in (key, weights):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return Encoder(key.hexdigest(), int(model.features), device, encode, weights.hexdigest())  # type: ignore[arg-type]
