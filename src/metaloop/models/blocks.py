"""An encoder's blocks, one after another: calling it up to one of them, and from one of them on."""

from collections.abc import Callable
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
