"""Requirements on tensors, with errors that say by how much they are broken."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.types import Params

_STEPS = (
    1e-5,
    1e-6,
    1e-7,
)  # of finite differences; the best one counts: small steps suffer from rounding, large ones from curvature
_CLOSE = 1e-5  # relative tolerance between a derivative and its finite difference


class BrokenLaw(AssertionError):
    """A class breaks a law of its contract."""


def require(kept: bool, law: str) -> None:
    """Raise a BrokenLaw with the message ``law`` unless it is kept."""
    if not kept:
        raise BrokenLaw(law)


def require_shape(value: Tensor, shape: tuple[int, ...], law: str) -> None:
    """Raise a BrokenLaw if a tensor has another shape, or numbers that are not finite."""
    require(tuple(value.shape) == shape, f"{law}: the shape is {tuple(value.shape)}, it must be {shape}")
    broken = int((~torch.isfinite(value)).sum())
    require(not broken, f"{law}: {broken} of {value.numel()} numbers are not finite")


def require_equal(value: Tensor, expected: Tensor, law: str, tolerance: float = 1e-8) -> None:
    """Raise a BrokenLaw if numbers differ by more than ``tolerance`` x max(1, abs(expected))."""
    require_shape(value, tuple(expected.shape), law)
    if not value.numel():
        return
    difference = (value.detach() - expected.detach()).abs()
    wrong = difference > tolerance * expected.detach().abs().clamp(min=1)
    require(
        not wrong.any(),
        f"{law}: {int(wrong.sum())} of {wrong.numel()} numbers differ, by up to {float(difference.max()):.3g}; at most "
        f"{tolerance:.0e} is allowed",
    )


def require_same(values: Params, expected: Params, law: str, tolerance: float = 1e-8) -> None:
    """Require the same names, and :func:`require_equal` of each."""
    require(values.keys() == expected.keys(), f"{law}: the names are {sorted(values)}, they must be {sorted(expected)}")
    for name, value in expected.items():
        require_equal(values[name], value, f"{law} ({name})", tolerance)


def require_derivative(value: Callable[[], float], parameters: Params, gradient: Params, law: str) -> None:
    """Raise a BrokenLaw if a gradient disagrees with central differences of ``value`` along a random direction.

    Args:
        value: evaluates the function at the parameters' current values, in float64.
        parameters: parameters by name, which are moved in place and then restored.
        gradient: the gradient to check, by the same names.
        law: the law, as the message of the error.
    """
    random = torch.Generator().manual_seed(0)
    direction = {n: torch.randn(p.shape, generator=random, dtype=p.dtype) for n, p in parameters.items()}
    derivative = sum(float((gradient[name] * direction[name]).sum()) for name in direction)
    measured = [_central_difference(value, parameters, direction, step) for step in _STEPS]
    best = min(measured, key=lambda difference: abs(difference - derivative))
    size = max(abs(derivative), abs(best), 1e-6 * math.sqrt(sum(float((g**2).sum()) for g in gradient.values())), 1e-12)
    require(
        abs(best - derivative) <= _CLOSE * size,
        f"{law}: along a random direction the gradient says {derivative:.8g}, finite differences say {best:.8g} "
        f"({abs(best - derivative) / size:.1e} off; at most {_CLOSE:.0e} is allowed)",
    )


def _central_difference(value: Callable[[], float], parameters: Params, direction: Params, step: float) -> float:
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    values = []
    with torch.no_grad():
        for side in (step, -step):
            for name, parameter in parameters.items():
                parameter.copy_(start[name] + side * direction[name])
            values.append(value())
        for name, parameter in parameters.items():
            parameter.copy_(start[name])
    return (values[0] - values[1]) / (2 * step)
