"""A network as a function of its parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metaloop.inner.module_call import ModuleCall
from metaloop.inner.problem import MODEL
from metaloop.models.adapter import as_model
from metaloop.models.model import Model
from metaloop.models.norm import norm_modes
from metaloop.models.torch_norms import with_own_norms
from metaloop.types import Examples, Inputs, Params, map_inputs


class FunctionalModel:
    """A model whose parameters are arguments of each call.

    Args:
        model: any module with ``forward(x)``; :class:`metaloop.models.model.Model` lists optional arguments. Torch's norm
            layers in it are exchanged, see :func:`metaloop.models.torch_norms.with_own_norms`.
        maps: whether to call it with ``maps=True``, for feature maps.
    """

    def __init__(self, model: nn.Module, *, maps: bool = False) -> None:
        self.module = with_own_norms(model)
        self.contract = as_model(model)
        self.modes = norm_modes(model)
        self._keywords = {"maps": True} if maps else {}
        self._names = tuple(name for name, _ in model.named_parameters())
        self._call = ModuleCall(model)

    def outputs(self, meta: Params, params: Params, x: Inputs, mask: Tensor | None) -> Tensor:
        """Call the model on examples of one task: (examples, *output).

        Args:
            meta: all meta-parameters; the model's carry the prefix ``model.``.
            params: adapted parameters by their names in the model, which take precedence over ``meta``.
            x: (examples, *input).
            mask: (examples,), true for real examples, which alone count in shared statistics; None if all are real.
        """
        values = {name: meta[MODEL + name] for name in self._names if MODEL + name in meta}
        outputs: Tensor = self._call({**values, **params}, self.arguments(x, mask), self._keywords)
        return outputs

    def arguments(self, x: Inputs, mask: Tensor | None) -> tuple[Inputs | Tensor, ...]:
        """Return the positional arguments of the model for examples ``x`` and their ``mask``."""
        return (x, mask) if self.contract.takes_weight and mask is not None else (x,)

    def features(self, meta: Params, params: Params, x: Inputs, mask: Tensor | None) -> Tensor:
        """Compute the input of the linear submodule ``head``, (examples, features); arguments as for :meth:`outputs`."""
        return self.outputs(meta, {**params, **self._identity(params)}, x, mask)

    def query_features(self, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """Compute the input of ``head`` for queries, (queries, features); arguments as for :meth:`query_outputs`."""
        return self.query_outputs(meta, {**params, **self._identity(params)}, support, x, mask)

    def _identity(self, params: Params) -> Params:
        """Return parameters with which the head is the identity."""
        like = next(iter(params.values()))
        if "head.center" in self._names:  # without a centre, a head of distances returns its input
            return {"head.center": like.new_zeros(0, self.module.get_parameter("head.center").shape[1])}
        width = self.module.get_parameter("head.weight").shape[1]
        identity = {"head.weight": torch.eye(width, dtype=like.dtype, device=like.device)}
        if "head.bias" in dict(self.module.named_parameters()):
            identity["head.bias"] = torch.zeros(width, dtype=like.dtype, device=like.device)
        if "head.lengths" in self._names:  # of a cosine head, whose features then have another length, which it ignores
            identity["head.lengths"] = torch.ones(width, dtype=like.dtype, device=like.device)
        return identity

    def query_outputs(self, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """Call the model on one task's queries ``x``: (queries, *output).

        In norm mode ``support``, queries are normalised by the statistics of the support set, in ``support_and_query`` outside
        meta-training each by those of the support set and itself. Arguments as for :meth:`outputs`.
        """
        if "support_and_query" in self.modes and not self.module.training:
            return self._one_by_one(meta, params, support, x)
        if "support" not in self.modes:
            return self.outputs(meta, params, x, mask)
        queries = count(x)
        real = torch.ones_like(support.y, dtype=torch.bool) if support.mask is None else support.mask
        counts = torch.cat([real, real.new_zeros(queries)])
        return self.outputs(meta, params, joined(support.x, x), counts)[len(real) :]

    def _one_by_one(self, meta: Params, params: Params, support: Examples, x: Inputs) -> Tensor:
        """Call the model on the support set and one query at a time: (queries, *output)."""
        counts = None if support.mask is None else torch.cat([support.mask, support.mask.new_ones(1)])
        batches = [joined(support.x, map_inputs(lambda t, i=i: t[i : i + 1], x)) for i in range(count(x))]  # type: ignore[misc]
        return torch.cat([self.outputs(meta, params, batch, counts)[-1:] for batch in batches])


class HeadAlone(nn.Module, Model):
    """A network that consists of another network's head; its input is the head's input (examples, features)."""

    head: nn.Linear

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        self.features = head.in_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, features) to (examples, *output)."""
        outputs: Tensor = self.head(x)
        return outputs


def joined(first: Inputs, second: Inputs, axis: int = 0) -> Inputs:
    """Concatenate inputs along ``axis``."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second], axis)
    return {name: torch.cat([value, second[name]], axis) for name, value in first.items()}  # type: ignore[union-attr, index]


def joined_masks(masks: Sequence[Tensor | None], sizes: Sequence[int]) -> Tensor | None:
    """Concatenate the masks of several sets of examples: (..., examples), or None if all masks are None.

    Args:
        masks: (..., size) of each set; None for a set whose examples are all real.
        sizes: number of examples of each set.
    """
    like = next((mask for mask in masks if mask is not None), None)
    if like is None:
        return None
    full = [like.new_ones((*like.shape[:-1], size)) for size in sizes]
    return torch.cat([ones if mask is None else mask for mask, ones in zip(masks, full, strict=True)], -1)


def count(x: Inputs) -> int:
    """Return the number of examples."""
    return len(x if isinstance(x, Tensor) else next(iter(x.values())))
