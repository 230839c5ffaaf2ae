"""Calls of an encoder up to one of its blocks, and from one of its blocks on."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn


def blocks_of(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the longest list of modules in ``encoder`` and its qualified name; an empty list if there is none."""
    lists = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda named: len(named[1]), default=("", nn.ModuleList()))


def first_moving(names: list[str], prefix: str, blocks: int) -> int:
    """Return the lowest number of a block that holds one of the parameters ``names``; it follows ``prefix`` in a name.

    The result is 0 if a parameter is in no block, because it may then be used anywhere, and ``blocks`` for no names.
    """
    if not all(name.startswith(prefix) for name in names):
        return 0
    return min((int(name.removeprefix(prefix).partition(".")[0]) for name in names), default=blocks)


def states_before(call: Callable[[], Tensor], blocks: nn.ModuleList, count: int) -> Tensor:
    """Return the input of block ``count`` when ``call`` calls the encoder, which stops there; the output if there is none."""
    if count == len(blocks):
        return call()

    def stop(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        raise _BlockReached(inputs[0])

    handle = blocks[count].register_forward_pre_hook(stop)
    try:
        return call()
    except _BlockReached as stopped:
        return stopped.states
    finally:
        handle.remove()


def states_from(states: Tensor, scores: Tensor, blocks: nn.ModuleList, count: int) -> Tensor:
    """Run the blocks from ``count`` on, given the states before them; return the last states (examples, length, width).

    ``scores`` is the mask that is added to the attention scores.
    """
    for block in list(blocks)[count:]:
        output = block(states, scores)
        states = output if isinstance(output, Tensor) else output[0]
    return states


def stand_alone(call: Callable[[], Tensor], scores: Tensor, blocks: nn.ModuleList, count: int) -> bool:
    """Return whether ``call`` passes only states and ``scores`` to the encoder's blocks from ``count`` on.

    Other blocks, which for instance also take positions, cannot be called by :func:`states_from`.
    """
    plain: list[bool] = []

    def inspect(block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        _, mask, *more = [*signature(block.forward).bind(*inputs, **named).arguments.values(), None, None]
        plain.append(isinstance(mask, Tensor) and _is_plain([mask, more], scores))

    handles = [block.register_forward_pre_hook(inspect, with_kwargs=True) for block in list(blocks)[count:]]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return len(plain) == len(handles) and all(plain)


def _is_plain(value: Any, scores: Tensor) -> bool:
    """Return whether ``value`` holds no tensor except ``scores``, and no object that may hide a tensor."""
    if isinstance(value, Tensor):
        return value.shape == scores.shape and torch.equal(value, scores)
    if isinstance(value, Mapping):
        return all(_is_plain(item, scores) for item in value.values())
    if isinstance(value, tuple | list):
        return all(_is_plain(item, scores) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


class _BlockReached(Exception):
    """Ends a forward pass early, with the states before a block."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def agree(left: Callable[[], Tensor], right: Callable[[], Tensor]) -> bool:
    """Return whether two computations give the same numbers; false if one of them fails."""
    try:
        with torch.no_grad():
            first, second = left(), right()
        return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=1e-5)
    except Exception:  # blocks with other arguments fail with many kinds of error
        return False
