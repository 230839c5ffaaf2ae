"""Tabular decision processes with random transitions and rewards."""

import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment, Step, at_least
from metaloop.control.noise import chosen, normal
from metaloop.data.philox import Stream
from metaloop.problems.control import Actions
from metaloop.types import Params


class TabularMDPs(Environment):
    """Decision processes whose transition probabilities and mean rewards are drawn (Osband et al. 2013; Duan et al. 2016, 3.2).

    The next state of each state and action has the probabilities ``transitions`` (tasks, states, actions, states), from a flat
    Dirichlet distribution. Rewards are normal with a standard deviation of 1 and the means ``rewards`` (tasks, states,
    actions), which are normal around 1 with a standard deviation of 1. An episode begins in state 0. A policy sees the state,
    one-hot.

    Args:
        states: number of states.
        actions: number of actions.
        horizon: steps of an episode.
    """

    noise = 3

    def __init__(self, states: int, actions: int, horizon: int) -> None:
        at_least({"states": (states, 2), "actions": (actions, 2), "horizon": (horizon, 1)})
        super().__init__(Actions(actions), horizon, (states,), f"decision processes of {states} states and {actions} actions")
        self.states = self.places = states

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; a flat Dirichlet vector is one of exponential numbers, over their sum."""
        shape = (len(numbers), self.states, self.actions.count)
        size = self.states * self.actions.count
        exponential = -(1 - stream.uniform(numbers, size * self.states, "transitions")).log().view(*shape, self.states)
        rewards = 1 + stream.normal(numbers, size, "mean rewards").view(shape)
        return {"transitions": (exponential / exponential.sum(-1, keepdim=True)).float(), "rewards": rewards.float()}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        rewards = parameters["rewards"]
        return {"state": torch.zeros(len(rewards), dtype=torch.int64, device=rewards.device)}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`."""
        return torch.nn.functional.one_hot(state["state"], self.states).float()

    def place(self, observation: Tensor) -> Tensor:
        """See :meth:`Environment.place`; the state."""
        return observation.argmax(-1)

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        place = torch.arange(len(actions), device=actions.device), state["state"], actions
        reward = parameters["rewards"][place] + normal(noise[:, 0], noise[:, 1])
        return Step({"state": chosen(parameters["transitions"][place], noise[:, 2])}, reward)

    def best_return(self, parameters: Params) -> Tensor:
        """See :meth:`Environment.best_return`, by dynamic programming."""
        return solved(parameters["transitions"], parameters["rewards"], self.horizon)[-1].amax(-1)[:, 0]

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """See :meth:`Environment.best_actions`."""
        values = solved(parameters["transitions"], parameters["rewards"], left)[-1]
        return values[torch.arange(len(values), device=values.device), state["state"]].argmax(-1)


def solved(transitions: Tensor, rewards: Tensor, horizon: int) -> list[Tensor]:
    """Solve decision processes by dynamic programming.

    Args:
        transitions: (tasks, states, actions, states).
        rewards: (tasks, states, actions), mean rewards.
        horizon: steps of an episode.

    Returns:
        For 1 to ``horizon`` steps left, the values (tasks, states, actions) of each action and the best ones after it.
    """
    values = [rewards]
    for _ in range(horizon - 1):
        values.append(rewards + (transitions @ values[-1].amax(-1)[:, None, :, None])[..., 0])
    return values
