"""Compute features with a network that never changes."""

import hashlib

import torch
from torch import Tensor, nn

from metaloop.data.encoded import Encoder
from metaloop.errors import UserError
from metaloop.models.adapter import as_model
from metaloop.models.norm import OF_EXAMPLES, norm_modes
from metaloop.types import Inputs

_VERSION = 1  # increase it when features are computed differently, so that cached ones are not reused


def frozen_encoder(model: nn.Module, settings: str, device: torch.device) -> Encoder:
    """Make an encoder from a network without a head.

    Args:
        model: answers (examples, features) and declares the number of features. It is moved to ``device``, frozen and put in
            evaluation mode.
        settings: the model's settings as text; part of the cache key.
        device: device that computes the features.

    Raises:
        UserError: the features depend on the other examples of a batch, or the model does not declare their number.
    """
    contract = as_model(model)
    if contract.features is None:
        raise UserError(
            f"model.frozen=true: {type(model).__name__} does not declare its number of features; set its attribute features, "
            f"or take model.frozen=false"
        )
    shared = norm_modes(model).intersection(OF_EXAMPLES)
    if shared:
        raise UserError(
            f"model.norm={min(shared)} makes features depend on the batch, so model.frozen=true cannot compute them once; "
            f"take model.norm=running"
        )
    model = model.to(device).eval().requires_grad_(requires_grad=False)

    def encode(x: Inputs) -> Tensor:
        with torch.no_grad():
            features: Tensor = model(x)
            return features.flatten(1).float()

    description = contract.described()
    key, weights = hashlib.sha256(f"{_VERSION} {settings} {description}".encode()), hashlib.sha256()
    for name, value in model.state_dict().items():
        for digest in (key, weights):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return Encoder(key.hexdigest(), contract.features, device, encode, weights.hexdigest())
