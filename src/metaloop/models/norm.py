"""Normalisation that is right under vmap and honest about what it looks at.

``torch.func.vmap`` gives wrong second-order gradients through the native affine batch and layer norms (measured: 7 % off on a
small net), so kernels here get no weight and bias, and the affine map is applied by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from metaloop.errors import UserError

MODES = ("batch", "support", "running", "group", "layer", "none")


class Norm(nn.Module):
    """One normalisation layer over channels, in one of six modes.

    * ``batch``: the statistics of whatever batch is passed, at meta-test the queries of the task: **transductive**.
    * ``support``: the query set is normalised with the support set's statistics.
    * ``running``: the batch's statistics in training, the running averages otherwise (as BatchNorm in supervised learning).
    * ``group``: groups of channels of one example (Wu and He 2018); ``layer``: all channels of one example.
    * ``none``: nothing, and no affine map.

    Args:
        channels: of the input (examples, channels, *places).
        mode: one of the above.
        groups: for mode ``group``; must divide ``channels``.
        eps: added to the variance.
        momentum: of the running averages, torch's convention (weight of the new value).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, mode: str, groups: int = 8, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f"model.norm={mode!r}: one of {', '.join(MODES)}")
        if mode == "group" and channels % groups:
            raise UserError(f"model.norm=group: {groups} groups do not divide {channels} channels")
        if mode == "group" and channels == groups:
            # Where there is one place, as in an MLP, the output would not depend on the input.
            raise UserError(f"model.norm=group: {groups} groups need more than {channels} channels; take norm=layer")
        self.mode = mode
        self.groups = groups if mode == "group" else 1
        self.eps = eps
        self.momentum = momentum
        self.seen: list[tuple[Tensor, Tensor]] | None = None  # moments of the calls within `observing`
        if mode != "none":
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        if mode == "running":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    @property
    def of_batch(self) -> bool:
        """Whether the next call standardises with the statistics of all it is given."""
        return self.mode in ("batch", "support") or (self.mode == "running" and self.training)

    @property
    def observes(self) -> bool:
        """Whether the next call's statistics count in the running averages."""
        return self.seen is not None and self.mode == "running" and self.training

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise ``x`` (examples, channels, *places).

        ``weight`` (examples,) says how much each example counts in the statistics of modes that share them between examples
        (0 for padding, and for queries in mode ``support``); None counts all alike.
        """
        if self.mode == "none":
            return x
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return self._standardised(x, weight, shape) * self.weight.view(shape) + self.bias.view(shape)

    def _standardised(self, x: Tensor, weight: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        if self.mode in ("group", "layer"):
            return F.group_norm(x, self.groups, None, None, self.eps)
        if self.mode == "running" and not self.training:
            mean, var = self.running_mean.view(shape), self.running_var.view(shape)
            return (x - mean) * torch.rsqrt(var + self.eps)
        if self.observes:
            seen = x.detach() if weight is None else x.detach()[weight > 0]
            var, mean = torch.var_mean(seen, [axis for axis in range(x.ndim) if axis != 1], correction=0)
            self.observe(mean, var, seen.numel() // seen.shape[1])
        if weight is None:
            return F.batch_norm(x, None, None, None, None, True, 0.1, self.eps)
        mean, var = _weighted_moments(x, weight)
        return (x - mean.view(shape)) * torch.rsqrt(var.view(shape) + self.eps)

    def observe(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Have a batch's moments, mean and biased variance (channels,) of ``count`` values, count in the running averages."""
        assert self.seen is not None
        self.seen.append((mean, var * (count / max(count - 1, 1))))

    def _move(self) -> None:
        """Move the running averages by the mean of what was seen, by all ranks of a distributed run."""
        assert self.seen is not None
        if not self.seen:
            return
        moments = torch.stack([torch.stack(pair) for pair in self.seen]).mean(0)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(moments)
            moments /= distributed.get_world_size()
        self.running_mean.lerp_(moments[0], self.momentum)
        self.running_var.lerp_(moments[1], self.momentum)


def _weighted_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance by channel (channels,), each example counting ``weight`` (examples,)."""
    flat = x.flatten(2) if x.ndim > 2 else x[:, :, None]
    weight = weight.to(x.dtype)
    # A batch of padding alone has no statistics and no loss; any finite number does.
    share = (weight / weight.sum().clamp(min=1) / flat.shape[2])[:, None, None]
    mean = (flat * share).sum((0, 2))
    return mean, ((flat - mean[:, None]) ** 2 * share).sum((0, 2))


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axes, for transformers: torch's own parameters and numbers, and right under vmap."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., *normalized_shape), standardised over the last axes and mapped affinely."""
        y = F.layer_norm(x, self.normalized_shape, None, None, self.eps)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


def with_own_layer_norms(model: nn.Module) -> nn.Module:
    """The same model object with every ``torch.nn.LayerNorm`` in it replaced by ours; parameters keep their names."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.LayerNorm:
                own = LayerNorm(layer.normalized_shape, layer.eps, layer.elementwise_affine)
                own.weight, own.bias = layer.weight, layer.bias
                setattr(parent, name, own)
    return model


def norm_mode(model: nn.Module) -> str:
    """The modes of a model's norm layers, as records state them: "batch", "group+running"; "none" for a model without any."""
    return "+".join(sorted(norm_modes(model))) or "none"


def norm_modes(model: nn.Module) -> frozenset[str]:
    """The modes of a model's norm layers.

    Torch's own BatchNorm layers count as "batch" or "running" by whether they track statistics, its GroupNorm as "group".
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
    """Once it is left, forward passes of a model in training mode have moved its running averages (mode ``running`` only).

    They move once, by the mean over the passes, so that they depend neither on the tasks' order nor on the number of ranks.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Norm) and layer.mode == "running"]
    for layer in layers:
        layer.seen = []
    try:
        yield
        for layer in layers:
            layer._move()
    finally:
        for layer in layers:
            layer.seen = None
