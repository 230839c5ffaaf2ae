"""A network as a function of its parameters, and of what may be normalised together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.inner.problem import MODEL
from metaloop.models.adapter import as_model
from metaloop.models.model import Model
from metaloop.models.norm import norm_modes
from metaloop.types import Examples, Inputs, Params


class FunctionalModel:
    """Calls a model with parameters from outside.

    Args:
        model: any module with ``forward(x)``, see :class:`metaloop.models.model.Model` for what else it may take.
        maps: whether it answers feature maps; then it must have some.
    """

    def __init__(self, model: nn.Module, *, maps: bool = False) -> None:
        self.module = model
        self.contract = as_model(model)
        self.support_statistics = "support" in norm_modes(model)
        self._more = {"maps": True} if maps else {}
        self._names = tuple(name for name, _ in model.named_parameters())

    def outputs(self, meta: Params, params: Params, x: Inputs, mask: Tensor | None) -> Tensor:
        """(examples, *output) of one task.

        Args:
            meta: all meta-parameters; the model's carry the prefix ``model.``.
            params: adapted parameters by the model's own names; they take precedence.
            x: (examples, *input).
            mask: (examples,) which examples are real and count in shared statistics; None for all.
        """
        values = {name: meta[MODEL + name] for name in self._names if MODEL + name in meta}
        return functional_call(self.module, {**values, **params}, self.arguments(x, mask), self._more)

    def arguments(self, x: Inputs, mask: Tensor | None) -> tuple[Inputs | Tensor, ...]:
        """What the model is called with for examples ``x`` of which ``mask`` says which are real."""
        return (x, mask) if self.contract.takes_weight and mask is not None else (x,)

    def features(self, meta: Params, params: Params, x: Inputs, mask: Tensor | None) -> Tensor:
        """(examples, features): what the linear submodule ``head`` gets to see; arguments as for :meth:`outputs`."""
        return self.outputs(meta, {**params, **self._identity(params)}, x, mask)

    def query_features(self, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """(queries, features): what ``head`` gets to see of one task's queries; arguments as for :meth:`query_outputs`."""
        return self.query_outputs(meta, {**params, **self._identity(params)}, support, x, mask)

    def _identity(self, params: Params) -> Params:
        """In the head's place it hands the head's input through, whatever the network around it does."""
        width = self.module.get_parameter("head.weight").shape[1]
        some = next(iter(params.values()))
        identity = {"head.weight": torch.eye(width, dtype=some.dtype, device=some.device)}
        if "head.bias" in dict(self.module.named_parameters()):
            identity["head.bias"] = torch.zeros(width, dtype=some.dtype, device=some.device)
        return identity

    def query_outputs(self, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """(queries, *output) of one task's queries ``x``; in norm mode ``support`` normalised with the support's statistics."""
        if not self.support_statistics:
            return self.outputs(meta, params, x, mask)
        queries = count(x)
        real = torch.ones_like(support.y, dtype=torch.bool) if support.mask is None else support.mask
        counts = torch.cat([real, real.new_zeros(queries)])
        return self.outputs(meta, params, joined(support.x, x), counts)[len(real) :]


class HeadAlone(nn.Module, Model):
    """A network that is nothing but another one's head; ``x`` is what that head gets to see, (examples, features)."""

    head: nn.Linear

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        self.features = head.in_features

    def forward(self, x: Tensor) -> Tensor:
        """(examples, features) to (examples, *output)."""
        return self.head(x)


def joined(first: Inputs, second: Inputs, axis: int = 0) -> Inputs:
    """Both inputs, one after the other along ``axis``."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second], axis)
    return {name: torch.cat([value, second[name]], axis) for name, value in first.items()}  # type: ignore[union-attr, index]


def joined_masks(masks: Sequence[Tensor | None], sizes: Sequence[int]) -> Tensor | None:
    """(..., examples): which are real of sets of ``sizes`` examples, one after the other; None where nothing says otherwise.

    Args:
        masks: (..., size) of each; None where all of a set are real.
        sizes: of the sets.
    """
    given = next((mask for mask in masks if mask is not None), None)
    if given is None:
        return None
    full = [given.new_ones((*given.shape[:-1], size)) for size in sizes]
    return torch.cat([ones if mask is None else mask for mask, ones in zip(masks, full, strict=True)], -1)


def count(x: Inputs) -> int:
    """How many examples."""
    return len(x if isinstance(x, Tensor) else next(iter(x.values())))
