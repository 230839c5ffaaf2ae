"""The comparison of a strategy's meta-gradient with the loop's, in float64, where rounding cannot hide a wrong derivative."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metaloop.errors import UserError
from metaloop.types import Params, Tasks

FEW = 2  # tasks that are compared
TOLERANCE = 1e-8  # relative distance in float64; wrong derivatives are 1e-4 and more away
_ROUNDING = 1e-2  # the same in all other types; ReLUs and poolings that rounding decides otherwise are far apart
_LOOP = "take algorithm/over_tasks=loop"

log = logging.getLogger(__name__)
Gradients = Callable[[Params, Tasks], tuple[Params, Params]]


def rounding(dtype: torch.dtype) -> float:
    """Return the largest relative distance between two meta-gradients of a type that rounding explains."""
    return TOLERANCE if dtype == torch.float64 else _ROUNDING


def distance(expected: Params, actual: Params) -> float:
    """Return the distance of two meta-gradients, relative to the size of the first."""
    errors = [((a - b).abs() ** 2).sum() for a, b in zip(tree_leaves(expected), tree_leaves(actual), strict=True)]
    sizes = [(a.abs() ** 2).sum() for a in tree_leaves(expected)]
    error, size = torch.stack([torch.stack(errors).sum(), torch.stack(sizes).sum()]).sqrt().tolist()
    return float(error / size) if size else float(error)


def in_double(meta: Params, tasks: Tasks) -> tuple[Params, Tasks]:
    """Return meta-parameters and the first few tasks in float64."""
    return {name: _double(value.detach()) for name, value in meta.items()}, tasks[:FEW].map(_double)


def distance_in_double(loop: Gradients, strategy: Gradients, meta: Params, tasks: Tasks) -> float:
    """Return the relative distance in float64 between the meta-gradients of a few tasks.

    Args:
        loop: the definition.
        strategy: what is compared with it.
        meta: the meta-parameters.
        tasks: the meta-batch.
    """
    meta, few = in_double(meta, tasks)
    return distance(loop(meta, few)[0], strategy(meta, few)[0])


def check_agreement(name: str, loop: Gradients, strategy: Gradients, meta: Params, tasks: Tasks) -> None:
    """Raise a UserError unless a strategy's meta-gradient of a few tasks is the loop's; a random one cannot be compared.

    Args:
        name: the strategy, for messages.
        loop: the definition.
        strategy: what is compared with it.
        meta: the meta-parameters.
        tasks: the meta-batch.
    """
    devices = list({value.device for value in meta.values() if value.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):  # a check must not move the random numbers of training
        loop(meta, tasks[:FEW])  # raises the network's own errors
        few = in_double(meta, tasks)
        expected = _tried(lambda: loop(*few)[0], f"{name} cannot be checked: the network does not run in float64")
        if distance(expected, loop(*few)[0]):
            log.info("the network is random, so tasks run by %s without a comparison with the loop", name)
            return
        actual = _tried(lambda: strategy(*few)[0], f"{name} cannot run this network")
    off = distance(expected, actual)
    if not off <= TOLERANCE:
        raise UserError(
            f"algorithm/over_tasks: by {name}, the meta-gradient of this network is {off:.2g} off the loop's, relative and in "
            f"float64; {_LOOP}, or metaloop.models.norm.Norm in the place of other norm layers"
        )


def _tried(run: Callable[[], Params], trouble: str) -> Params:
    try:
        return run()
    except Exception as error:  # vmap and networks of one type fail with many kinds of error
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"algorithm/over_tasks: {trouble} ({type(error).__name__}: {reason}); {_LOOP}") from error


def _double(value: Tensor) -> Any:
    return value.to(torch.complex128) if value.is_complex() else value.double() if value.is_floating_point() else value
