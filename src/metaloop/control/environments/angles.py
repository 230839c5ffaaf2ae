"""Angles, in radians."""

import math

from torch import Tensor


def sine_and_cosine(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of angles, in the type of the angles.

    Computed in float64: in float32 the last bit may depend on how many are computed together, and unstable systems multiply it.
    """
    wide = angle.double()
    return wide.sin().to(angle.dtype), wide.cos().to(angle.dtype)


def wrapped(angle: Tensor) -> Tensor:
    """Return the same angles in [-pi, pi)."""
    return (angle + math.pi).remainder(2 * math.pi) - math.pi
