"""The adapter that gives the model contract to any network."""

import inspect
from dataclasses import dataclass

from torch import nn

from metaloop.models.model import HEAD, Model


@dataclass(frozen=True)
class PlainModel(Model):
    """The contract of a network that does not declare it itself; the network is not changed."""

    head: nn.Module | None
    features: int | None
    takes_weight: bool


def as_model(module: nn.Module) -> Model:
    """Return the module itself if it is a :class:`Model`, else the contract that can be read off it.

    Its head is the submodule ``head``. Its number of features is its attribute ``features``, or the head's number of inputs.
    """
    if isinstance(module, Model):
        return module
    head = dict(module.named_modules(remove_duplicate=False)).get(HEAD)  # it may have another name, too
    # Read by name, because a user's network need not depend on this package.
    features = getattr(module, "features", head.in_features if isinstance(head, nn.Linear) else None)
    weighted = "weight" in inspect.signature(module.forward).parameters
    return PlainModel(head, features if isinstance(features, int) else None, weighted)
