"""Autograd functions of our own kernels, which tracing can record as one operation each.

A tracer follows torch's operations. A kernel that is called by its address is none, so a trace would miss it. Within
:func:`recordable`, the kernels of an :class:`Operator` are called through torch's dispatcher, where a tracer sees them.
"""

import ast
import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

_TENSOR = "tensor"  # stands for a tensor among the other inputs
_forwards: dict[str, Callable[..., Any]] = {}  # by name of the class
_recording = False


class Operator(torch.autograd.Function):
    """An autograd function whose ``forward`` runs a kernel; for ``torch.func``, with a ``setup_context`` and a ``vmap``.

    Inputs of ``forward`` are tensors, None, numbers, and tuples of numbers; results are new tensors.

    Attributes:
        one: Whether ``forward`` returns one tensor instead of a tuple.
    """

    one: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "forward" in vars(cls):
            name, forward = f"{cls.__module__}.{cls.__qualname__}", cls.forward
            _forwards[name] = forward

            def recorded(*inputs: Any) -> Any:
                if not _recording:
                    return forward(*inputs)
                tensors = [each for each in inputs if isinstance(each, Tensor)]
                rest = repr([_TENSOR if isinstance(each, Tensor) else each for each in inputs])
                results = _dispatched()(name, tensors, rest)
                return results[0] if cls.one else tuple(results)

            cls.forward = staticmethod(recorded)  # type: ignore[method-assign]  # torch calls it so, too

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """Apply the function."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*inputs)  # type: ignore[no-untyped-call]  # torch declares no types for it
        # The public one looks up a signature, 50 us a call. This one is of a base class in C++.
        return super(torch.autograd.Function, cls).apply(*inputs)  # type: ignore[misc]  # torch declares no types for it


@contextlib.contextmanager
def recordable() -> Iterator[None]:
    """Call kernels so that a tracer of real tensors records them."""
    global _recording
    before, _recording = _recording, True
    try:
        yield
    finally:
        _recording = before


def untraced() -> bool:
    """Whether a kernel can be called now: nothing follows torch's operations, or what does can follow it."""
    return not torch.compiler.is_compiling() and (_recording or torch._C._len_torch_dispatch_stack() == 0)


@cache
def _dispatched() -> Any:
    library: Any = torch.library.Library("metaloop", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch declares no types for it
    library.define("kernel(str name, Tensor[] tensors, str rest) -> Tensor[]")
    library.impl("kernel", _kernel, "CompositeExplicitAutograd")
    _kept.append(library)
    return torch.ops.metaloop.kernel


_kept: list[Any] = []  # an operation ends with its library


def _kernel(name: str, tensors: list[Tensor], rest: str) -> list[Tensor]:
    """Run the ``forward`` of an operator on its inputs, ``rest`` being those that are no tensors."""
    remaining = iter(tensors)
    inputs = [next(remaining) if each == _TENSOR else each for each in _parsed(rest)]
    results = _forwards[name](*inputs)
    return [results] if isinstance(results, Tensor) else list(results)


@cache
def _parsed(rest: str) -> list[Any]:
    return list(ast.literal_eval(rest))
