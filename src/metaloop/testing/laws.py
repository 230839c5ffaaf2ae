"""Laws, and the numbers by which they are broken."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.types import Params

_STEPS = (1e-5, 1e-6, 1e-7)  # of finite differences; the best of them counts, since rounding and curvature pull apart
_CLOSE = 1e-5  # relative, of a derivative to its finite difference


class BrokenLaw(AssertionError):
    """A contract that a class does not keep."""


def require(kept: bool, law: str) -> None:
    """Raise a BrokenLaw unless it is kept."""
    if not kept:
        raise BrokenLaw(law)


def require_shape(value: Tensor, shape: tuple[int, ...], law: str) -> None:
    """Raise a BrokenLaw where a tensor has another shape, or numbers that are not finite."""
    require(tuple(value.shape) == shape, f"{law}: the shape is {tuple(value.shape)}, it must be {shape}")
    broken = int((~torch.isfinite(value)).sum())
    require(not broken, f"{law}: {broken} of {value.numel()} numbers are not finite")


def require_equal(value: Tensor, expected: Tensor, law: str, tolerance: float = 1e-8) -> None:
    """Raise a BrokenLaw where numbers differ by more than ``tolerance``, relative to those that are expected beyond 1."""
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
    """As :func:`require_equal`, by name."""
    require(values.keys() == expected.keys(), f"{law}: the names are {sorted(values)}, they must be {sorted(expected)}")
    for name, value in expected.items():
        require_equal(values[name], value, f"{law} ({name})", tolerance)


def require_derivative(value: Callable[[], float], parameters: Params, gradient: Params, law: str) -> None:
    """Raise a BrokenLaw unless a gradient is the derivative of ``value`` along a random direction, by central differences.

    Args:
        value: a function of the parameters' numbers, in float64.
        parameters: by name; they are moved and put back.
        gradient: the claim, by the same names.
        law: what it is the gradient of.
    """
    random = torch.Generator().manual_seed(0)
    direction = {n: torch.randn(p.shape, generator=random, dtype=p.dtype) for n, p in parameters.items()}
    claimed = sum(float((gradient[name] * direction[name]).sum()) for name in direction)
    measured = [_central_difference(value, parameters, direction, step) for step in _STEPS]
    best = min(measured, key=lambda each: abs(each - claimed))
    size = max(abs(claimed), abs(best), 1e-6 * math.sqrt(sum(float((g**2).sum()) for g in gradient.values())), 1e-12)
    require(
        abs(best - claimed) <= _CLOSE * size,
        f"{law}: along a random direction the gradient says {claimed:.8g}, finite differences say {best:.8g} "
        f"({abs(best - claimed) / size:.1e} off; at most {_CLOSE:.0e} is allowed)",
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
