"""An encoder's blocks, one after another: calling it up to one of them, and from one of them on."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn


def blocks_of(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """The longest list of modules in ``encoder`` and its qualified name; an empty one where there is none."""
    lists = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda named: len(named[1]), default=("", nn.ModuleList()))


def first_moving(names: list[str], prefix: str, blocks: int) -> int:
    """The lowest block that one of the parameters ``names`` is in, whose block's number follows ``prefix``.

    0 where one is in no block, so that nobody can say what comes before it.
    """
    if not all(name.startswith(prefix) for name in names):
        return 0
    return min((int(name.removeprefix(prefix).partition(".")[0]) for name in names), default=blocks)


def states_before(call: Callable[[], Tensor], blocks: nn.ModuleList, count: int) -> Tensor:
    """What block ``count`` is given when ``call`` calls the encoder, which ends there; its answer where there is none."""
    if count == len(blocks):
        return call()

    def stop(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        raise _Reached(inputs[0])

    handle = blocks[count].register_forward_pre_hook(stop)
    try:
        return call()
    except _Reached as reached:
        return reached.states
    finally:
        handle.remove()


def states_from(states: Tensor, scores: Tensor, blocks: nn.ModuleList, count: int) -> Tensor:
    """The last states (examples, length, width), from those before block ``count`` and what is added to attention's scores."""
    for block in list(blocks)[count:]:
        answer = block(states, scores)
        states = answer if isinstance(answer, Tensor) else answer[0]
    return states


def stand_alone(call: Callable[[], Tensor], scores: Tensor, blocks: nn.ModuleList, count: int) -> bool:
    """Whether ``call``, which calls the encoder, hands blocks from ``count`` on states, then ``scores``, and nothing else.

    Others are told of positions or are quantised, for instance, and are not called as :func:`states_from` calls them.
    """
    found: list[bool] = []

    def look(block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        _, mask, *more = [*signature(block.forward).bind(*inputs, **named).arguments.values(), None, None]
        found.append(isinstance(mask, Tensor) and _is_plain([mask, more], scores))

    handles = [block.register_forward_pre_hook(look, with_kwargs=True) for block in list(blocks)[count:]]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return len(found) == len(handles) and all(found)


def _is_plain(value: Any, scores: Tensor) -> bool:
    """Whether there is no tensor but ``scores`` in it, and nothing that may hide one."""
    if isinstance(value, Tensor):
        return value.shape == scores.shape and torch.equal(value, scores)
    if isinstance(value, Mapping):
        return all(_is_plain(each, scores) for each in value.values())
    if isinstance(value, tuple | list):
        return all(_is_plain(each, scores) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


class _Reached(Exception):
    """Ends a forward pass early."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def same(left: Callable[[], Tensor], right: Callable[[], Tensor]) -> bool:
    """Whether two ways of computing agree; false where one of them cannot be gone."""
    try:
        with torch.no_grad():
            one, other = left(), right()
        return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    except Exception:  # blocks of another kind refuse their arguments in many ways
        return False
