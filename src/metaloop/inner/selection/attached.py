"""Parts that are added to a model's layers: they read a layer's input and change its output.

The layer object stays and its parameters keep their names; the part's parameters come beside them. Any ``torch.nn`` model can
thus be extended in place after it was made or loaded.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.selection.adapted import HEAD, check_head_names

LINEAR_MAPS = (nn.Linear, nn.Conv2d)


class Part(nn.Module, ABC):
    """A module that is added to one layer."""

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the layer's new output, given its first argument ``x`` and its output ``y``."""


def attach(layer: nn.Module, name: str, part: Part) -> None:
    """Make ``part`` the submodule ``name`` of ``layer``, in the type and on the device of the layer's parameters.

    Raises:
        UserError: the layer already has an attribute of this name.
    """
    if hasattr(layer, name):  # torch refuses the name of any attribute, too
        raise UserError(
            f"algorithm.adapted: the model's layer {type(layer).__name__} already has an attribute {name!r}; "
            f"choose other layers by algorithm.adapted.at, or another algorithm/adapted"
        )
    like = next(layer.parameters(), None)
    layer.add_module(name, part if like is None else part.to(like))
    # A hook rather than a subclass: it fits every kind of layer, and copies and pickles with the layer.
    layer.register_forward_hook(partial(_changed, name))


def _changed(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    changed: Tensor = layer.get_submodule(name)(inputs[0], output)
    return changed


def layers_at(model: nn.Module, at: str, kinds: Sequence[type[nn.Module]] | None = None) -> dict[str, nn.Module]:
    """Return the submodules of ``model`` whose qualified name contains a match of ``at``, by name; never the head.

    Args:
        model: a network whose head, if any, is the submodule ``head``.
        at: a regular expression.
        kinds: only modules of exactly these classes; None for all but lists and dicts, which are never called. Subclasses are
            excluded, because torch's attention reads the weights of its subclass of ``nn.Linear`` without calling it.

    Raises:
        UserError: there is no such submodule, or ``at`` is not a regular expression.
    """
    try:
        pattern = re.compile(at)
    except re.error as error:
        raise UserError(f"algorithm.adapted.at={at!r} is not a regular expression: {error}") from error
    fit = {name: m for name, m in model.named_modules() if name and (kinds is None or type(m) in kinds)}
    fit = {n: m for n, m in fit.items() if not f"{n}.".startswith(HEAD) and not isinstance(m, nn.ModuleList | nn.ModuleDict)}
    matches = {name: layer for name, layer in fit.items() if pattern.search(name)}
    if not matches:
        what = "module" if kinds is None else " or ".join(kind.__name__ for kind in kinds)
        raise UserError(
            f"algorithm.adapted.at={at!r} matches no {what} of the model outside its head; it has {', '.join(fit) or 'none'}. "
            f"Give algorithm.adapted.at one of these, or take another algorithm/adapted, such as context_film for convolutions"
        )
    return matches


def part_names(model: nn.Module, kind: type[Part]) -> set[str]:
    """Return the qualified names of the parameters of all parts of one class."""
    parts = [name for name, module in model.named_modules() if isinstance(module, kind)]
    return {f"{part}.{name}" for part in parts for name, _ in model.get_submodule(part).named_parameters()}


def with_head(model: nn.Module, chosen: set[str], *, head: bool) -> tuple[str, ...]:
    """Return the names in ``chosen``, and with ``head`` those of the head, in the model's order."""
    check_head_names(model)
    return tuple(
        name
        for name, value in model.named_parameters()
        if name in chosen or (head and name.startswith(HEAD) and value.requires_grad)
    )


def require_head(model: nn.Module, choice: str) -> None:
    """Raise a UserError if ``algorithm.adapted.head`` asks for a head that the model lacks."""
    if not any(name.startswith(HEAD) for name, _ in model.named_parameters()):
        raise UserError(f"algorithm.adapted.head=true ({choice}): the model has no head; take algorithm.adapted.head=false")
