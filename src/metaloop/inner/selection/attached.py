"""Parts that are added to a model's layers: they see what goes into a layer, and change what comes out.

The layer object stays, its parameters keep their names, and the part's come beside them, so that any ``torch.nn`` model can
be extended, in place, after it was made or loaded.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.selection.adapted import HEAD

LINEAR_MAPS = (nn.Linear, nn.Conv2d)


class Part(nn.Module, ABC):
    """What is added to one layer."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """What the layer answers from now on, where it answered ``y`` to its first argument ``x``."""


def attach(layer: nn.Module, name: str, part: Part) -> None:
    """Make ``part`` the submodule ``name`` of ``layer``, in the type and on the device of the layer's parameters.

    Raises:
        UserError: the layer has something of this name.
    """
    if hasattr(layer, name):  # whatever it is: torch refuses the name, too
        raise UserError(f"algorithm.adapted: the model's layer {type(layer).__name__} has a {name!r} of its own already")
    like = next(layer.parameters(), None)
    layer.add_module(name, part if like is None else part.to(like))
    # A hook rather than a subclass: it fits every kind of layer, and copies and pickles with the layer.
    layer.register_forward_hook(partial(_changed, name))


def _changed(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return layer.get_submodule(name)(inputs[0], output)


def layers_at(model: nn.Module, at: str, kinds: Sequence[type[nn.Module]] | None = None) -> dict[str, nn.Module]:
    """The submodules of ``model`` but the head whose qualified name a match of ``at`` is found in, by name.

    Args:
        model: with the head, if any, as its submodule ``head``.
        at: a regular expression.
        kinds: only modules of exactly these classes; None for any but lists and dicts, which are never called. Nor may be
            subclasses: torch's attention reads the weights of its own kind of linear layer.

    Raises:
        UserError: there is none, or ``at`` is no regular expression.
    """
    try:
        pattern = re.compile(at)
    except re.error as error:
        raise UserError(f"algorithm.adapted.at={at!r} is no regular expression: {error}") from error
    fit = {name: m for name, m in model.named_modules() if name and (kinds is None or type(m) in kinds)}
    fit = {n: m for n, m in fit.items() if not f"{n}.".startswith(HEAD) and not isinstance(m, nn.ModuleList | nn.ModuleDict)}
    found = {name: layer for name, layer in fit.items() if pattern.search(name)}
    if not found:
        what = "module" if kinds is None else " or ".join(kind.__name__ for kind in kinds)
        raise UserError(
            f"algorithm.adapted.at={at!r} matches no {what} of the model outside its head; it has {', '.join(fit) or 'none'}. "
            f"Give algorithm.adapted.at one of these, or take another algorithm/adapted, such as context_film for convolutions"
        )
    return found


def part_names(model: nn.Module, kind: type[Part]) -> set[str]:
    """Qualified names of the parameters that belong to parts of one class."""
    parts = [name for name, module in model.named_modules() if isinstance(module, kind)]
    return {f"{part}.{name}" for part in parts for name, _ in model.get_submodule(part).named_parameters()}


def with_head(model: nn.Module, chosen: set[str], *, head: bool) -> tuple[str, ...]:
    """The names among ``chosen``, and with ``head`` those of the head, in the model's order."""
    return tuple(
        name
        for name, value in model.named_parameters()
        if name in chosen or (head and name.startswith(HEAD) and value.requires_grad)
    )


def require_head(model: nn.Module, choice: str) -> None:
    """Raise a UserError where ``algorithm.adapted.head`` asks for a head that the model lacks."""
    if not any(name.startswith(HEAD) for name, _ in model.named_parameters()):
        raise UserError(f"algorithm.adapted.head=true ({choice}): the model has no head; take algorithm.adapted.head=false")
