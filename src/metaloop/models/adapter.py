"""The contract of a model, for any network."""

import inspect
from dataclasses import dataclass

from torch import nn

from metaloop.models.model import HEAD, Model


@dataclass(frozen=True)
class PlainModel(Model):
    """What there is to know of a network that does not say it itself; the network stays as it is."""

    head: nn.Module | None
    features: int | None
    takes_weight: bool


def as_model(module: nn.Module) -> Model:
    """The module itself if it is a :class:`Model`, else what can be read off it.

    Its head is the submodule ``head``. It has as many features as its attribute ``features`` says, or as the head takes.
    """
    if isinstance(module, Model):
        return module
    head = dict(module.named_children()).get(HEAD)
    # By name: a user's network need not know this package.
    features = getattr(module, "features", head.in_features if isinstance(head, nn.Linear) else None)
    weighted = "weight" in inspect.signature(module.forward).parameters
    return PlainModel(head, features if isinstance(features, int) else None, weighted)
