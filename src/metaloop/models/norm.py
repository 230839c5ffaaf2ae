"""Normalization layers that are right under vmap and state which examples their statistics come from.

``torch.func.vmap`` gives wrong second-order gradients through the native affine batch and layer norms (measured: 7 % off on a
small net). Torch's functions are therefore called without weight and bias, and the affine map is applied by hand.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from metaloop.errors import UserError

OF_EXAMPLES = ("batch", "support", "support_and_query")  # an answer depends on other examples, in evaluation, too
MODES = (*OF_EXAMPLES, "running", "group", "layer", "none")
Network = TypeVar("Network", bound=nn.Module)


class RunningAverages(nn.Module):
    """Running averages of a norm layer, which move once for all calls within :func:`observing`; a mixin.

    Attributes:
        momentum: weight of the new value; None for the mean of all values, which ``num_batches_tracked`` counts.
        moments: moments of the calls within :func:`observing`; None outside.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    momentum: float | None
    moments: list[tuple[Tensor, Tensor]] | None = None

    @property
    def averages(self) -> bool:
        """Whether the layer has running averages."""
        return self.running_mean is not None

    @property
    def observes(self) -> bool:
        """Whether the next call's statistics count in the running averages."""
        return self.moments is not None and self.averages and self.training

    def observe(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Add a batch's mean and biased variance (channels,) of ``count`` values to the moments for the running averages."""
        assert self.moments is not None
        self.moments.append((mean, var * (count / max(count - 1, 1))))

    def move(self) -> None:
        """Move the running averages by the mean of all moments, over all ranks of a distributed run."""
        assert self.moments is not None
        if not self.moments:
            return
        moments = torch.stack([torch.stack(pair) for pair in self.moments]).mean(0)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(moments)
            moments /= distributed.get_world_size()
        batches = dict(self.named_buffers(recurse=False)).get("num_batches_tracked")  # torch's layers count
        if batches is not None:
            batches += 1
        weight = self.momentum
        if weight is None:
            assert batches is not None
            weight = 1 / int(batches)
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(moments[0], weight)
        self.running_var.lerp_(moments[1], weight)


class Norm(RunningAverages):
    """A normalization layer over channels, in one of seven modes.

    * ``batch``: statistics of the batch at hand, at meta-test the queries of the task: **transductive**.
    * ``support``: statistics of the support set, for the query set as well.
    * ``support_and_query``: each query is normalized with the statistics of the support set and that query alone, outside
      meta-training (Nichol et al. 2018, section 6.1, not transductive); in meta-training as ``batch``.
    * ``running``: statistics of the batch in training, running averages otherwise (BatchNorm of supervised learning).
    * ``group``: statistics of groups of channels of one example (Wu and He 2018).
    * ``layer``: statistics of all channels of one example.
    * ``none``: no normalization and no affine map.

    Args:
        channels: number of channels of the input (examples, channels, *places).
        mode: one of the above.
        groups: number of groups in mode ``group``; must divide ``channels``.
        eps: number added to the variance.
        momentum: weight of the new value in the running averages, as in torch.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def __init__(self, channels: int, mode: str, groups: int = 8, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f"model.norm={mode!r}: one of {', '.join(MODES)}")
        if mode == "group" and channels % groups:
            raise UserError(f"model.norm=group: {groups} groups do not divide {channels} channels")
        if mode == "group" and channels == groups:
            # With one place, as in an MLP, the output would not depend on the input.
            raise UserError(f"model.norm=group: {groups} groups need more than {channels} channels; take norm=layer")
        self.mode = mode
        self.groups = groups if mode == "group" else 1
        self.eps = eps
        self.momentum = momentum
        if mode != "none":
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        if mode == "running":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    @property
    def of_batch(self) -> bool:
        """Whether the next call normalizes with the statistics of its whole batch."""
        return self.mode in OF_EXAMPLES or (self.mode == "running" and self.training)

    @property
    def averages(self) -> bool:
        """See :attr:`RunningAverages.averages`."""
        return self.mode == "running"

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalize ``x`` (examples, channels, *places).

        ``weight`` (examples,) is the weight of each example in statistics that examples share (0 for padding, and for queries
        in mode ``support``); None for equal weights.
        """
        if self.mode == "none":
            return x
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return self._standardized(x, weight, shape) * self.weight.view(shape) + self.bias.view(shape)

    def _standardized(self, x: Tensor, weight: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        if self.mode in ("group", "layer"):
            return F.group_norm(x, self.groups, None, None, self.eps)
        if self.mode == "running" and not self.training:
            mean, var = self.running_mean.view(shape), self.running_var.view(shape)
            return (x - mean) * torch.rsqrt(var + self.eps)
        if self.observes:
            observe_batch(self, x if weight is None else x[weight > 0])
        if weight is None:
            return F.batch_norm(x, None, None, None, None, True, 0.1, self.eps)
        mean, var = _weighted_moments(x, weight)
        return (x - mean.view(shape)) * torch.rsqrt(var.view(shape) + self.eps)


def observe_batch(layer: RunningAverages, x: Tensor) -> None:
    """Add the moments of ``x`` (examples, channels, *places) to those of the layer."""
    var, mean = torch.var_mean(x.detach(), [axis for axis in range(x.ndim) if axis != 1], correction=0)
    layer.observe(mean, var, x.numel() // x.shape[1])


def _weighted_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance by channel (channels,), with examples weighted by ``weight`` (examples,)."""
    flat = x.flatten(2) if x.ndim > 2 else x[:, :, None]
    weight = weight.to(x.dtype)
    # A batch of padding alone has no statistics and no loss, so any finite number will do.
    share = (weight / weight.sum().clamp(min=1) / flat.shape[2])[:, None, None]
    mean = (flat * share).sum((0, 2))
    return mean, ((flat - mean[:, None]) ** 2 * share).sum((0, 2))


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axes, for transformers. Parameters and numbers are torch's, and it is right under vmap."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (..., *normalized_shape) over the last axes and apply the affine map."""
        y = F.layer_norm(x, self.normalized_shape, None, None, self.eps)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


def own_layer_norm(layer: nn.LayerNorm, kind: type[LayerNorm] = LayerNorm) -> LayerNorm:
    """Return a layer norm of class ``kind`` with the parameters of ``layer``."""
    norm = kind(layer.normalized_shape, layer.eps, layer.elementwise_affine)
    norm.weight, norm.bias = layer.weight, layer.bias
    return norm


def with_own_layer_norms(model: Network) -> Network:
    """Replace every ``torch.nn.LayerNorm`` of ``model`` by ours, in place, and return it; parameters keep their names."""
    return with_replaced_layers(model, lambda layer: own_layer_norm(layer) if type(layer) is nn.LayerNorm else None)


def with_replaced_layers(model: Network, replacement: Callable[[nn.Module], nn.Module | None]) -> Network:
    """Replace every layer of ``model`` for which there is a ``replacement``, in place, and return the model."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            other = replacement(layer)
            if other is not None:
                parent.register_module(name, other)
    return model


_LAYERS = (Norm, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def norm_parameters(model: nn.Module) -> tuple[str, ...]:
    """Return the qualified names of the scales and offsets of a model's norm layers, ours and torch's, in the model's order."""
    owned = {id(p) for layer in model.modules() if isinstance(layer, _LAYERS) for p in layer.parameters(recurse=False)}
    return tuple(name for name, value in model.named_parameters() if id(value) in owned)


def norm_mode(model: nn.Module) -> str:
    """Return the modes of a model's norm layers as written in records: "batch", "group+running"; "none" without norms."""
    return "+".join(sorted(norm_modes(model))) or "none"


def norm_modes(model: nn.Module) -> frozenset[str]:
    """Return the modes of a model's norm layers.

    Torch's own BatchNorm layers count as "running" if they track statistics and as "batch" otherwise, LayerNorm as "layer", and
    GroupNorm as "group".
    """
    modes = {layer.mode for layer in model.modules() if isinstance(layer, Norm)} - {"none"}
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            modes.add("running" if layer.track_running_stats else "batch")
        elif isinstance(layer, nn.LayerNorm):
            modes.add("layer")
        elif isinstance(layer, nn.GroupNorm):
            modes.add("group")
    return frozenset(modes)


@contextmanager
def observing(model: nn.Module) -> Iterator[None]:
    """Update a model's running averages on exit, by the forward passes in training mode inside.

    They move once, by the mean over the passes, so that they depend neither on the order of tasks nor on the number of ranks.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, RunningAverages) and layer.averages]
    for layer in layers:
        layer.moments = []
    try:
        yield
        for layer in layers:
            layer.move()
    finally:
        for layer in layers:
            layer.moments = None
