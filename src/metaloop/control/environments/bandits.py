"""Bandits: arms that pay at random (Robbins 1952). An episode is one pull, so a trial of n episodes has n pulls."""

import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment, Step, at_least
from metaloop.control.noise import normal
from metaloop.data.philox import Stream
from metaloop.problems.control import Actions
from metaloop.types import Params


class Bandits(Environment):
    """Arms whose mean rewards are the parameter ``means`` (tasks, arms). There is nothing to observe: a single 0.

    Args:
        arms: number of arms.
        title: name of the family in words.
    """

    def __init__(self, arms: int, title: str) -> None:
        at_least({"arms": (arms, 2)})
        super().__init__(Actions(arms), 1, (1,), title)
        self.places = 1

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`; a bandit has no state."""
        return {}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`."""
        means = parameters["means"]
        return means.new_zeros(len(means), 1)

    def place(self, observation: Tensor) -> Tensor:
        """See :meth:`Environment.place`."""
        return observation.new_zeros(len(observation), dtype=torch.int64)

    def best_return(self, parameters: Params) -> Tensor:
        """The mean of the best arm (tasks,)."""
        return parameters["means"].amax(-1)

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """The best arm (tasks,)."""
        return parameters["means"].argmax(-1)


class BernoulliBandits(Bandits):
    """Arms that pay 1 with a probability that is uniform in [0, 1], and else 0 (Duan et al. 2016, section 3.1).

    Args:
        arms: number of arms.
    """

    noise = 1

    def __init__(self, arms: int) -> None:
        super().__init__(arms, f"{arms} Bernoulli arms")

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`."""
        return {"means": stream.uniform(numbers, self.actions.count, "means of arms").float()}

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        mean = parameters["means"].gather(1, actions[:, None])[:, 0]
        return Step(state, (noise[:, 0] < mean).float())


class GaussianBandits(Bandits):
    """Arms with standard normal means, whose rewards have a standard deviation of 1.

    Args:
        arms: number of arms.
    """

    noise = 2

    def __init__(self, arms: int) -> None:
        super().__init__(arms, f"{arms} Gaussian arms")

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`."""
        return {"means": stream.normal(numbers, self.actions.count, "means of arms").float()}

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        mean = parameters["means"].gather(1, actions[:, None])[:, 0]
        return Step(state, mean + normal(noise[:, 0], noise[:, 1]))
