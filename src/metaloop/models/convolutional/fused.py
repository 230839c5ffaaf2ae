"""CPU kernels of a convolutional block: one by one, the operations between its matrix products take longer than these.

``norm_relu_pool`` is batch norm, ReLU and 2x2 max-pooling in one kernel. ``convolution`` is a 3x3 convolution as one matrix
product, which is faster than oneDNN for small maps. Both have first and second derivatives and work in a loop and under vmap.
The kernels run on one thread, the matrix products on all. Tests hold both equal to the plain composition.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metaloop.models.convolutional.native import library
from metaloop.system.operators import Operator, untraced

Observe = Callable[[Tensor, Tensor, int], None]  # mean and biased variance (channels,), number of values

_LANES, _MOST = 8, 1024  # the number of channels must be a multiple of the first and at most the second
_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_LIBRARY = "conv_block"
_PATCHES = "patches"


def usable(x: Tensor) -> bool:
    """Return whether kernels can run on ``x``: on the CPU, of a supported type, untraced, and with a compiler installed."""
    return (
        x.device.type == "cpu"
        and x.dtype in _NAMES
        and untraced()
        and not torch.is_autocast_enabled("cpu")
        and library(_LIBRARY) is not None
        and library(_PATCHES) is not None
    )


def fits(channels: int) -> bool:
    """Return whether ``norm_relu_pool`` supports this number of channels."""
    return channels % _LANES == 0 and channels <= _MOST


def channels_last(x: Tensor) -> Tensor:
    """Return ``x`` (examples, channels, height, width) in the memory format that is fastest for CPU convolutions."""
    if x.device.type == "cpu" and not torch._C._are_functorch_transforms_active():  # vmap supports no memory formats
        return x.to(memory_format=torch.channels_last)
    return x


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: bool, observe: Observe | None = None) -> Tensor:
    """Return ``max_pool(relu(batch_norm(x) * weight + bias))`` with the statistics of ``x``.

    Args:
        x: (examples, channels, height, width), for which :func:`usable` and :func:`fits` hold. ``torch.channels_last`` is the
            fastest memory format, and that of the result.
        weight: (channels,).
        bias: (channels,).
        eps: added to the variance.
        pool: whether to pool; sides are rounded down.
        observe: called with the statistics; not under vmap.
    """
    results: tuple[Tensor, ...] = _NormReluPool.apply(x, weight[None], bias[None], eps, pool)
    out, _, mean, root = results
    if observe is not None:
        observe(mean[0], variance(root[0], eps), x.numel() // x.shape[1])
    return out


def variance(root: Tensor, eps: float) -> Tensor:
    """Return the biased variance, given the ``1 / sqrt(variance + eps)`` that a kernel returns."""
    return root.reciprocal().square() - eps


def convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve ``x`` (examples, channels, height, width) 3x3 with padding 1, as a matrix product of its patches."""
    n, _, h, w = x.shape
    rows: Tensor = _Patches.apply(x, stride)
    out = rows @ weight.permute(0, 2, 3, 1).reshape(len(weight), -1).T
    return out.view(n, (h - 1) // stride + 1, (w - 1) // stride + 1, -1).permute(0, 3, 1, 2)


class _NormReluPool(Operator):
    """The fused norm, ReLU and pooling of x (tasks * examples, channels, height, width), weight and bias (tasks, channels).

    It returns the result and, for the derivatives, the input chosen in each window, the means and the inverse deviations.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float, pool: bool) -> tuple[Tensor, ...]:
        x, weight, bias = _last(x), weight.contiguous(), bias.contiguous()
        out = _map(x, pool)
        chosen = _map(x, pool) if pool else x.new_empty(len(weight), 0)
        mean, root = torch.empty_like(weight), torch.empty_like(weight)
        _run("forward", x, weight, pool, eps, x, weight, bias, out, chosen, mean, root)
        return out, chosen, mean, root

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, _, ctx.pool = inputs
        ctx.save_for_backward(x, weight, *output)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        if outputs[0] is None:
            return (None,) * 5
        return *_Backward.apply(outputs[0], *ctx.saved_tensors, ctx.pool), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return _stacked(_NormReluPool, info.batch_size, in_dims, inputs)


class _Backward(Operator):
    """Gradients with respect to x, weight and bias, as a function of the output's gradient, x and weight."""

    @staticmethod
    def forward(
        g: Tensor, x: Tensor, weight: Tensor, out: Tensor, chosen: Tensor, mean: Tensor, root: Tensor, pool: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        g, x, weight = _last(g), _last(x), weight.contiguous()
        to_x, to_weight, to_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        chosen = chosen if pool else x
        _run("backward", x, weight, pool, 0.0, x, chosen, out, g, weight, mean, root, to_x, to_weight, to_bias)
        return to_x, to_weight, to_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.pool = inputs
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        return *_Second.apply(*outputs, *(tensor.detach() for tensor in ctx.saved_tensors), ctx.pool), *(None,) * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return _stacked(_Backward, info.batch_size, in_dims, inputs)


class _Second(Operator):
    """Gradients of ``_Backward`` with respect to the output's gradient, x and weight. There is no third derivative."""

    @staticmethod
    def forward(a: Tensor, w: Tensor, b: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        g, x, weight, out, chosen, mean, root, to_weight, to_bias, pool = rest
        a, g, x, w, b, weight = _last(a), _last(g), _last(x), w.contiguous(), b.contiguous(), weight.contiguous()
        results = torch.empty_like(out), torch.empty_like(x), torch.empty_like(weight)
        chosen = chosen if pool else x
        tensors = (x, chosen, out, g, weight, mean, root, to_weight, to_bias, a, w, b, *results)
        _run("second", x, weight, pool, 0.0, *tensors)
        return results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        raise NotImplementedError("Conv4's kernels have no third derivative; take model.kernels=false")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return _stacked(_Second, info.batch_size, in_dims, inputs)


class _Patches(Operator):
    """The 3x3 patches of (examples, channels, height, width) as rows (examples * places, 9 * channels)."""

    one = True

    @staticmethod
    def forward(x: Tensor, stride: int) -> Tensor:
        x = _last(x)
        n, c, h, w = x.shape
        rows = x.new_empty(n * ((h - 1) // stride + 1) * ((w - 1) // stride + 1), 9 * c)
        _function("patches", x, _PATCHES)(*_longs(n, h, w, c, stride), *_at(x, rows))
        return rows

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.shape, ctx.stride = inputs[0].shape, inputs[1]

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        return _Gathered.apply(outputs[0], tuple(ctx.shape), ctx.stride), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, stride: int) -> Any:
        rows = _Patches.apply(_merged(x, in_dims[0], info.batch_size), stride)
        return rows.unflatten(0, (info.batch_size, -1)), 0


class _Gathered(Operator):
    """The adjoint of ``_Patches``: at each place, the sum of the patches' entries for it."""

    one = True

    @staticmethod
    def forward(rows: Tensor, shape: tuple[int, ...], stride: int) -> Tensor:
        n, c, h, w = shape
        rows = rows.contiguous()
        x = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
        _function("gathered", rows, _PATCHES)(*_longs(n, h, w, c, stride), *_at(rows, x))
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.stride = inputs[2]

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        return _Patches.apply(outputs[0], ctx.stride), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], rows: Tensor, shape: tuple[int, ...], stride: int) -> Any:
        n, *rest = shape
        x = _Gathered.apply(_merged(rows, in_dims[0], info.batch_size), (info.batch_size * n, *rest), stride)
        return x.unflatten(0, (info.batch_size, -1)), 0


def _stacked(function: Any, batch: int, in_dims: tuple[int | None, ...], inputs: tuple[Any, ...]) -> Any:
    """Apply a function of stacked tasks under vmap: the batch axis becomes part of the tasks' axis."""
    merged = [_merged(x, dim, batch) if isinstance(x, Tensor) else x for x, dim in zip(inputs, in_dims, strict=True)]
    outputs = function.apply(*merged)
    return tuple(output.unflatten(0, (batch, len(output) // batch)) for output in outputs), (0,) * len(outputs)


def _merged(x: Tensor, dim: int | None, batch: int) -> Tensor:
    """Merge the batch axis, if there is one, into the first axis; repeat ``x`` otherwise."""
    x = x.expand(batch, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.flatten(0, 1)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _map(x: Tensor, pool: bool) -> Tensor:
    n, c, h, w = x.shape
    if pool:
        h, w = h // 2, w // 2
    return torch.empty((n, c, h, w), dtype=x.dtype, memory_format=torch.channels_last)


def _longs(*numbers: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(number) for number in numbers]


def _at(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def _function(name: str, x: Tensor, source: str = _LIBRARY) -> Any:
    return getattr(library(source), f"{name}_{_NAMES[x.dtype]}")  # ctypes looks symbols up by name


def _run(name: str, x: Tensor, weight: Tensor, pool: bool, eps: float, *tensors: Tensor) -> None:
    n, c, h, w = x.shape
    tasks = len(weight)
    _function(name, x)(*_longs(tasks, n // tasks, h, w, c), ctypes.c_int(pool), ctypes.c_double(eps), *_at(*tensors))
