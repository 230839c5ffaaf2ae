"""A pole on a cart that must be balanced, with physics of its own in each task."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment, Step, at_least
from metaloop.control.environments.ranges import Range, checked_ranges, drawn
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import Params

GRAVITY = 9.8
SECONDS = 0.02  # of a step
FARTHEST = 2.4  # place of the cart at which an episode ends
STEEPEST = 12 * 2 * math.pi / 360  # angle of the pole at which an episode ends
_AT_START = 0.05  # largest absolute value of each number of the state
_SINE = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(5))  # of sin(x) / x in powers of x²
_COSINE = tuple((-1) ** n / math.factorial(2 * n) for n in range(6))


class CartPole(Environment):
    """A cart is pushed to the left or to the right so that the pole on it does not fall (Barto, Sutton and Anderson 1983).

    Equations, Euler steps of 0.02 s, the start and the ends are those of gymnasium's CartPole-v1: each step pays 1, and an
    episode ends when the pole leans by more than 12 degrees, when the cart is 2.4 from the middle, or after ``horizon`` steps.
    What is observed is the state: place and speed of the cart, angle and angular speed of the pole. A task is two masses, a
    length and a force; CartPole-v1 has 1.0, 0.1, 0.5 and 10.

    Args:
        horizon: most steps of an episode; 500 in CartPole-v1.
        cart_mass: range of the cart's mass.
        pole_mass: range of the pole's mass.
        length: range of half the pole's length.
        force: range of the force of a push.
        reversed_share: share of the tasks in which the two actions are exchanged.
    """

    start_noise = 4

    def __init__(
        self, horizon: int, cart_mass: Range, pole_mass: Range, length: Range, force: Range, reversed_share: float
    ) -> None:
        at_least({"horizon": (horizon, 1)})
        if not 0 <= reversed_share <= 1:
            raise UserError(f"dataset.environment.reversed_share={reversed_share}: between 0 and 1")
        super().__init__(Actions(2), horizon, (4,), "cart-poles")
        ranges = {"cart_mass": cart_mass, "pole_mass": pole_mass, "length": length, "force": force}
        self.ranges = checked_ranges(ranges, positive=True)
        self.reversed_share = reversed_share

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; a negative ``force`` exchanges the actions."""
        values = dict(drawn(self.ranges, stream, numbers))
        exchanged = stream.uniform(numbers, 1, "whether actions are exchanged")[:, 0] < self.reversed_share
        return {**values, "force": torch.where(exchanged, -values["force"], values["force"])}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        start = (_AT_START * (2 * noise.T - 1)).to(parameters["force"].dtype).contiguous()  # so that steps can be vectorized
        place, speed, angle, turning = start.unbind()
        time = torch.zeros_like(place, dtype=torch.int32)
        return {"place": place, "speed": speed, "angle": angle, "turning": turning, "time": time, "ended": time > 0}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`; a transposed view, because a copy takes five times as long."""
        return torch.stack([state["place"], state["speed"], state["angle"], state["turning"]]).T

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        angle, turning, length = state["angle"], state["turning"], parameters["length"]
        force = torch.where(actions == 1, parameters["force"], -parameters["force"])
        sine, cosine = _sine_and_cosine(angle)
        share = parameters["pole_mass"] / (parameters["cart_mass"] + parameters["pole_mass"])  # of the pole in the whole mass
        push = share * (force / parameters["pole_mass"] + length * turning * turning * sine)
        turned = (GRAVITY * sine - cosine * push) / (length * (4 / 3 - share * cosine * cosine))
        moved = push - share * length * turned * cosine
        # After its end an episode stands still: Euler steps could explode.
        seconds = SECONDS * (~state["ended"]).to(angle.dtype)
        new = {
            "place": state["place"] + seconds * state["speed"],
            "speed": state["speed"] + seconds * moved,
            "angle": angle + seconds * turning,
            "turning": turning + seconds * turned,
            "time": state["time"] + 1,
        }
        ended = (new["place"].abs() > FARTHEST) | (new["angle"].abs() > STEEPEST)
        return Step({**new, "ended": ended}, torch.ones_like(angle), ended | (new["time"] == self.horizon))


def _sine_and_cosine(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine by their series, which have 15 right digits for the angles at which an episode goes on.

    They take a tenth of the time of torch's functions, whose last bit may depend on how many numbers are computed together.
    """
    square = angle * angle
    return angle * _series(square, _SINE), _series(square, _COSINE)


def _series(x: Tensor, factors: Sequence[float]) -> Tensor:
    """The polynomial with these factors of 1, x, x², ..., by Horner's rule."""
    result = factors[-2] + factors[-1] * x
    for factor in factors[-3::-1]:
        result = factor + result * x
    return result
