"""Strided convolutional blocks, all in one CPU kernel: a task's maps stay in the cache, and Python runs once for all tasks.

The kernel has first and second derivatives and works in a loop and under vmap, with parameters that tasks share or that are
each task's own. It runs on one thread; worker processes run tasks side by side on all cores. Images get no gradient. Tests hold
it equal to the plain composition.

A tensor here belongs to one task (or is shared by all) or has one more axis in front: tasks, or for parameters "stacks", groups
of consecutive tasks that share a parameter.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metaloop.models.convolutional.fused import Observe, _function, variance
from metaloop.models.convolutional.native import library
from metaloop.system.operators import Operator

_LIBRARY = "conv_stack"
_AXES = (4, 1, 1)  # of a kernel, a scale and an offset
_MAPS = 4  # axes of images and of maps
_NO_THIRD = "Conv4's kernels have no third derivative; take model.kernels=false"
_Block = tuple[Tensor, Tensor, Tensor]  # kernel (channels, depth, 3, 3), scale and offset (channels,)


def fits(x: Tensor) -> bool:
    """Return whether images (examples, channels, height, width) need no gradient at any level, and the kernel is there."""
    return not _differentiated(x) and library(_LIBRARY) is not None


def _differentiated(x: Tensor) -> bool:
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_gradtrackingtensor(x) and x.requires_grad:
            return True
        x = functorch.get_unwrapped(x)
    return x.requires_grad


def blocks(
    x: Tensor, parameters: Sequence[_Block], strides: Sequence[int], eps: float, observe: Sequence[Observe | None]
) -> Tensor:
    """Return the output of blocks ``relu(batch_norm(conv(x, kernel)) * scale + offset)`` with the statistics of the batch.

    Args:
        x: (examples, depth, height, width), for which :func:`fits` and :func:`metaloop.models.convolutional.fused.usable` hold.
        parameters: of each block.
        strides: of each block.
        eps: added to the variance.
        observe: functions called with each block's statistics; not under vmap.
    """
    results: tuple[Tensor, Tensor] = _Stack.apply(x, tuple(strides), eps, *(each for block in parameters for each in block))
    out, state = results
    if any(observe):
        widths = [len(offset) for _, _, offset in parameters]
        means, roots = state.detach()[-2 * sum(widths) :].chunk(2)
        counts = [math.prod(shape) // shape[1] for shape in _shapes(x, strides, widths)]
        for function, mean, root, count in zip(
            observe, torch.split(means, widths), torch.split(roots, widths), counts, strict=True
        ):
            if function is not None:
                function(mean, variance(root, eps), count)
    return out


class _Stack(Operator):
    """The output of the blocks for x (examples, depth, height, width), and the state that the derivatives need."""

    @staticmethod
    def forward(x: Tensor, strides: tuple[int, ...], eps: float, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        widths = [offset.shape[-1] for offset in parameters[2::3]]
        shapes = _shapes(x, strides, widths)
        out, state = _new(x, *shapes[-1]), _new(x, sum(map(math.prod, shapes)) + 2 * sum(widths))
        _run("forward", x, strides, [parameters], [ctypes.c_double(eps)], [out, state])
        return out, state

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, ctx.strides, _, *parameters = inputs
        ctx.save_for_backward(x, output[1], *parameters)
        ctx.shape = output[0].shape
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor | None) -> Any:
        (x, state, *parameters), (g, more) = ctx.saved_tensors, outputs
        if g is None and more is None:
            return (None,) * (3 + len(parameters))
        g = x.new_zeros(ctx.shape) if g is None else g
        counts = _counts(parameters)
        _, *gradients = _Backward.apply(g, more, x, state, ctx.strides, counts, *parameters)
        return None, None, None, *gradients

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, strides: tuple[int, ...], eps: float, *parameters: Tensor) -> Any:
        axis = _Axis(info.batch_size)
        outputs = _Stack.apply(axis.tasks(x, in_dims[0], _MAPS), strides, eps, *axis.parameters(parameters, in_dims[3:]))
        return axis.split(outputs, [axis.within(x, in_dims[0])] * 2)


class _Backward(Operator):
    """Outputs' gradients where they are positive, and the gradients of parameters, summed over the tasks of each stack.

    ``counts`` has the number of stacks of each gradient, 0 for no such axis. Under vmap it is larger than that of the
    parameter, so that tasks which share a parameter have gradients of their own. ``more`` is the gradient of the state.
    """

    @staticmethod
    def forward(
        g: Tensor,
        more: Tensor | None,
        x: Tensor,
        state: Tensor,
        strides: tuple[int, ...],
        counts: tuple[int, ...],
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        results = _results(rest, counts)
        kept = _new(x, state.shape[-1] - 2 * sum(offset.shape[-1] for offset in rest[2::3]))
        _run("backward", x, strides, [rest, results], [], [state, g, more, kept])
        return kept, *results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, more, x, state, ctx.strides, _, *parameters = inputs
        ctx.save_for_backward(x, state, output[0], *parameters)
        ctx.mark_non_differentiable(output[0])
        ctx.last = more is not None

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        if ctx.last:
            raise NotImplementedError(_NO_THIRD)
        x, state, kept, *parameters = (tensor.detach() for tensor in ctx.saved_tensors)
        counts = _counts(parameters)
        to_g, to_state, *results = _Second.apply(x, state, kept, ctx.strides, counts, *parameters, *outputs[1:])
        return to_g, None, None, to_state, None, None, *results

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        axis, (g, more, x, state, strides, counts, *parameters) = _Axis(info.batch_size), inputs
        more = None if more is None else axis.tasks(more, in_dims[1], 1)
        tensors = (axis.tasks(g, in_dims[0], _MAPS), more, axis.tasks(x, in_dims[2], _MAPS), axis.tasks(state, in_dims[3], 1))
        outputs = _Backward.apply(*tensors, strides, axis.counts(counts), *axis.parameters(parameters, in_dims[6:]))
        return axis.split(outputs, [axis.within(x, in_dims[2]), *counts])


class _Second(Operator):
    """Gradients of ``_Backward`` with respect to the outputs' gradient, the state and the parameters; no third derivative."""

    @staticmethod
    def forward(
        x: Tensor, state: Tensor, kept: Tensor, strides: tuple[int, ...], counts: tuple[int, ...], *rest: Tensor
    ) -> tuple[Tensor, ...]:
        parameters, along = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        results = _results(parameters, counts)
        to_g = _new(x, *_shapes(x, strides, [offset.shape[-1] for offset in parameters[2::3]])[-1])
        to_state = torch.empty_like(state)
        _run("second", x, strides, [parameters, along, results], [], [state, kept, to_g, to_state])
        return to_g, to_state, *results

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        raise NotImplementedError(_NO_THIRD)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> Any:
        axis, (x, state, kept, strides, counts, *rest) = _Axis(info.batch_size), inputs
        tensors = axis.tasks(x, in_dims[0], _MAPS), axis.tasks(state, in_dims[1], 1), axis.tasks(kept, in_dims[2], 1)
        outputs = _Second.apply(*tensors, strides, axis.counts(counts), *axis.parameters(rest, in_dims[5:]))
        tasks = axis.within(x, in_dims[0])
        return axis.split(outputs, [tasks, tasks, *counts])


class _Axis:
    """The axis of a vmap over ``size``, which becomes part of the axis in front."""

    def __init__(self, size: int) -> None:
        self.size = size

    def tasks(self, tensor: Tensor, dim: int | None, axes: int) -> Tensor:
        """Return a tensor with the axis of tasks in front, given its number of axes without."""
        moved = tensor.expand(self.size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        return moved.flatten(0, 1) if moved.ndim > axes + 1 else moved

    def within(self, images: Tensor, dim: int | None) -> int:
        """Return the number of tasks that each entry of this axis has, 0 for no axis of tasks."""
        return _count(images if dim is None else images.select(dim, 0), _MAPS)

    def parameters(self, tensors: Sequence[Tensor], dims: Sequence[int | None]) -> list[Tensor]:
        """Return parameters with the axis of stacks in front; what all tasks share stays without."""
        return [
            tensor if dim is None and tensor.ndim == axes else self.tasks(tensor, dim, axes)
            for tensor, dim, axes in zip(tensors, dims, _AXES * (len(tensors) // 3), strict=True)
        ]

    def counts(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of stacks of gradients of all."""
        return tuple(self.size * max(count, 1) for count in counts)

    def split(self, outputs: Sequence[Tensor], counts: Sequence[int]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Separate the axis again, given the lengths of the axis in front within, 0 for none; return also where it is."""
        parts = [
            output.reshape(self.size, n, *output.shape[1:]) if n else output for output, n in zip(outputs, counts, strict=True)
        ]
        return tuple(parts), (0,) * len(parts)


def _count(tensor: Tensor, axes: int) -> int:
    """Return the length of the axis in front, 0 for none."""
    return len(tensor) if tensor.ndim > axes else 0


def _counts(parameters: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the numbers of stacks of parameters, 0 for no such axis."""
    return tuple(_count(each, axes) for each, axes in zip(parameters, _AXES * (len(parameters) // 3), strict=True))


def _shapes(x: Tensor, strides: Sequence[int], widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes of all blocks' outputs, (examples, channels, height, width)."""
    shapes: list[tuple[int, ...]] = []
    n, _, h, w = x.shape[-_MAPS:]
    for stride, width in zip(strides, widths, strict=True):
        h, w = (h - 1) // stride + 1, (w - 1) // stride + 1
        shapes.append((n, width, h, w))
    return shapes


def _new(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(*x.shape[:-_MAPS], *shape)


def _results(parameters: Sequence[Tensor], counts: tuple[int, ...]) -> list[Tensor]:
    """Make memory for gradients of parameters."""
    shapes = [each.shape[-axes:] for each, axes in zip(parameters, _AXES * (len(parameters) // 3), strict=True)]
    return [each.new_empty(*([n] if n else []), *shape) for each, shape, n in zip(parameters, shapes, counts, strict=True)]


def _run(
    name: str,
    x: Tensor,
    strides: tuple[int, ...],
    groups: list[Sequence[Tensor]],
    numbers: list[Any],
    tensors: list[Tensor | None],
) -> None:
    """Call a function of the library with sizes, groups of parameters and their stacks, numbers, images and other tensors."""
    widths = [offset.shape[-1] for offset in groups[0][2::3]]
    tasks = x.shape[0] if x.ndim > _MAPS else 1
    arguments = [
        _longs([tasks, *x.shape[-_MAPS:], len(strides), *(n for pair in zip(widths, strides, strict=True) for n in pair)])
    ]
    kept = []  # copies must live until the call
    for group in groups:
        dense = [tensor.contiguous() for tensor in group]
        stacks = [max(count, 1) for count in _counts(dense)]
        arguments += [_longs(stacks), (ctypes.c_void_p * len(dense))(*(each.data_ptr() for each in dense))]
        kept += dense
    others = [None if tensor is None else tensor.contiguous() for tensor in (x, *tensors)]
    pointers = [ctypes.c_void_p(None if each is None else each.data_ptr()) for each in others]
    _function(name, x, _LIBRARY)(*arguments, *numbers, *pointers)


def _longs(numbers: list[int]) -> Any:
    return (ctypes.c_long * len(numbers))(*numbers)
