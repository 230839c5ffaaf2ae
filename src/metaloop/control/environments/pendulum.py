"""A pendulum that must be swung up and held there, with physics of its own in each task."""

import math

import torch
from torch import Tensor

from metaloop.control.environments.angles import sine_and_cosine, wrapped
from metaloop.control.environments.environment import Environment, Step, at_least
from metaloop.control.environments.ranges import Range, checked_ranges, drawn
from metaloop.data.philox import Stream
from metaloop.problems.control import Actions
from metaloop.types import Params

SECONDS = 0.05  # of a step
FASTEST = 8.0  # radians a second
STRONGEST = 2.0  # torque


class Pendulum(Environment):
    """A torque at the hinge swings a pendulum up; it is too weak to lift it at once.

    Equations, semi-implicit Euler steps of 0.05 s, the start and the reward are those of gymnasium's Pendulum-v1: the reward is
    minus (angle² + 0.1 speed² + 0.001 torque²) before the step, where the angle is 0 at the top. What is observed is cosine and
    sine of the angle, and the angular speed. An action of 1 is the largest torque, 2. A task is a gravity, a mass and a length;
    Pendulum-v1 has 10, 1 and 1. An episode lasts ``horizon`` steps.

    Args:
        horizon: steps of an episode; 200 in Pendulum-v1.
        gravity: range of the gravity.
        mass: range of the mass.
        length: range of the length.
    """

    start_noise = 2

    def __init__(self, horizon: int, gravity: Range, mass: Range, length: Range) -> None:
        at_least({"horizon": (horizon, 1)})
        super().__init__(Actions(1, continuous=True), horizon, (3,), "pendulums")
        self.ranges = checked_ranges({"gravity": gravity, "mass": mass, "length": length}, positive=True)

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`."""
        return drawn(self.ranges, stream, numbers)

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`; the angle is uniform, the speed uniform in [-1, 1]."""
        angle, speed = (2 * noise - 1).to(parameters["mass"].dtype).unbind(1)
        return {"angle": math.pi * angle, "speed": speed}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`."""
        sine, cosine = sine_and_cosine(state["angle"])
        return torch.stack([cosine, sine, state["speed"]], 1)

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        angle, speed = state["angle"], state["speed"]
        mass, length = parameters["mass"], parameters["length"]
        torque = STRONGEST * actions[:, 0].clamp(-1, 1).to(angle.dtype)
        cost = wrapped(angle) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        pull = 1.5 * parameters["gravity"] / length * sine_and_cosine(angle)[0]
        speed = (speed + (pull + 3 / (mass * length**2) * torque) * SECONDS).clamp(-FASTEST, FASTEST)
        return Step({"angle": angle + speed * SECONDS, "speed": speed}, -cost)
