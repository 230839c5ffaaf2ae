"""A network that never changes, as what makes features of examples."""

import hashlib

import torch
from torch import Tensor, nn

from metaloop.data.encoded import Encoder
from metaloop.errors import UserError
from metaloop.models.adapter import as_model
from metaloop.models.norm import norm_modes
from metaloop.types import Inputs

_VERSION = 1  # raise it when features are made otherwise


def frozen_encoder(model: nn.Module, settings: str, device: torch.device) -> Encoder:
    """The encoder that a network without a head is.

    Args:
        model: answers (examples, features), and tells how many. It is put on ``device``, in evaluation mode.
        settings: of the model.
        device: where it computes.

    Raises:
        UserError: its answers depend on which examples it sees together, or it does not tell how many features it has.
    """
    contract = as_model(model)
    if contract.features is None:
        raise UserError(
            f"model.frozen=true: {type(model).__name__} does not say how many features it answers; give it an attribute "
            f"features, their number"
        )
    shared = {"batch", "support"} & norm_modes(model)
    if shared:
        raise UserError(
            f"model.norm={min(shared)} lets features depend on the batch, so they cannot be made once; take running"
        )
    model = model.to(device).eval().requires_grad_(requires_grad=False)

    def encode(x: Inputs) -> Tensor:
        with torch.no_grad():
            return model(x).flatten(1).float()

    described = contract.described()
    key, weights = hashlib.sha256(f"{_VERSION} {settings} {described}".encode()), hashlib.sha256()
    for name, value in model.state_dict().items():
        for digest in (key, weights):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return Encoder(key.hexdigest(), contract.features, device, encode, weights.hexdigest())
