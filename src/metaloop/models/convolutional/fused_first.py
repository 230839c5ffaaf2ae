"""The first convolutional block in one CPU kernel: convolution, batch norm, ReLU and pooling.

Images have few channels and feature maps many. A map is therefore recomputed, two rows at a time, instead of written and read
again, which takes a third of the time and no memory. There is no gradient with respect to the images.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from metaloop.models.convolutional.fused import Observe, _at, _function, _last, _longs, _map, variance

_CHANNELS = 2  # most channels of an image; with more, recomputing a map takes longer than reading it


def fits(x: Tensor, conv: torch.nn.Conv2d) -> bool:
    """Return whether :func:`first_block` supports these images (examples, channels, height, width) and this convolution."""
    return (
        x.shape[1] <= _CHANNELS
        and conv.bias is None
        and conv.stride == (1, 1)
        and not x.requires_grad
        # Under torch.func, ``requires_grad`` does not show whether an outer transform differentiates with respect to x.
        and not torch._C._are_functorch_transforms_active()
    )


def first_block(x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, eps: float, observe: Observe | None = None) -> Tensor:
    """Return ``max_pool(relu(batch_norm(conv(x, kernel)) * weight + bias))`` with the batch's statistics and padding 1.

    Args:
        x: (examples, depth, height, width), for which :func:`fits` and :func:`metaloop.models.convolutional.fused.usable` hold.
        kernel: (channels, depth, 3, 3).
        weight: (channels,).
        bias: (channels,).
        eps: added to the variance.
        observe: called with the statistics.
    """
    results: tuple[Tensor, ...] = _First.apply(x, _places_first(kernel), weight, bias, eps)  # type: ignore[no-untyped-call]  # torch declares no types for it
    out, _, mean, root = results
    if observe is not None:
        observe(mean, variance(root, eps), len(x) * x.shape[2] * x.shape[3])
    return out


def _places_first(kernel: Tensor) -> Tensor:
    return kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous()  # (9 * depth, channels)


class _First(torch.autograd.Function):
    """The block's output for x (examples, depth, height, width), kernel (9 * depth, channels), weight and bias (channels,).

    It returns the result and, for the derivatives, the input chosen in each window, the means and the inverse deviations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        x, weight, bias = _last(x), weight.contiguous(), bias.contiguous()
        n, _, h, w = x.shape
        pooled = x.new_empty(1).expand(n, kernel.shape[1], h, w)
        out, chosen, mean, root = _map(pooled, True), _map(pooled, True), torch.empty_like(weight), torch.empty_like(weight)
        _call("first_forward", x, kernel, eps, x, kernel, weight, bias, out, chosen, mean, root)
        ctx.save_for_backward(x, kernel, weight, out, chosen, mean, root)
        ctx.mark_non_differentiable(chosen, mean, root)
        ctx.set_materialize_grads(False)
        return out, chosen, mean, root

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        if outputs[0] is None:
            return (None,) * 5
        gradients = _FirstBackward.apply(outputs[0], *ctx.saved_tensors)  # type: ignore[no-untyped-call]  # torch declares no types for it
        return None, *gradients, None


class _FirstBackward(torch.autograd.Function):
    """Gradients with respect to kernel, weight and bias, as a function of the output's gradient, kernel and weight."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, kernel: Tensor, weight: Tensor, out: Tensor, chosen: Tensor, mean: Tensor, root: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        g = _last(g)
        results = torch.empty_like(kernel), torch.empty_like(weight), torch.empty_like(weight)
        _call("first_backward", x, kernel, 0.0, x, kernel, chosen, out, g, weight, mean, root, *results)
        ctx.save_for_backward(g, x, kernel, weight, out, chosen, mean, root, *results[1:])
        return results

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        saved = [tensor.detach() for tensor in ctx.saved_tensors]
        to_g, to_kernel, to_weight = _FirstSecond.apply(*outputs, *saved)  # type: ignore[no-untyped-call]  # torch declares no types for it
        return to_g, None, to_kernel, to_weight, None, None, None, None


class _FirstSecond(torch.autograd.Function):
    """Gradients of ``_FirstBackward`` with respect to the output's gradient, kernel and weight; no third derivative."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, w: Tensor, b: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        g, x, kernel, weight, out, chosen, mean, root, to_weight, to_bias = rest
        a, w, b = a.contiguous(), w.contiguous(), b.contiguous()
        results = torch.empty_like(out), torch.empty_like(kernel), torch.empty_like(weight)
        inputs = (x, kernel, chosen, out, g, weight, mean, root, to_weight, to_bias, a, w, b)
        _call("first_second", x, kernel, 0.0, *inputs, *results)
        return results

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        raise NotImplementedError("Conv4's kernels have no third derivative; take model.kernels=false")


def _call(name: str, x: Tensor, kernel: Tensor, eps: float, *tensors: Tensor) -> None:
    n, depth, h, w = x.shape
    _function(name, x)(*_longs(n, h, w, kernel.shape[1], depth), ctypes.c_double(eps), *_at(*tensors))
