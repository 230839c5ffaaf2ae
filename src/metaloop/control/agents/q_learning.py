"""Q-learning in tables, for all tasks of a batch at once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.errors import UserError


@dataclass
class Table:
    """What is known of a task.

    Attributes:
        values: (tasks, places, actions).
        environment: counts observations.
        noise: random numbers of each step: one for each action, and one that says whether to explore.
        time: steps of the episode so far.
    """

    values: Tensor
    environment: Environment
    noise: TrialNoise
    time: int = 0


class QLearning(ControlPolicy):
    """Q-learning (Watkins 1989) with a table of values of each observation and action, which takes the best action.

    Of equal ones it takes a random one. Initial values that are higher than those of what is known make it try everything else
    first. An episode that ends at its horizon was cut short, so the value after its last step counts (Pardo et al. 2018).

    Args:
        rate: how far a value moves towards what was seen, above 0 and at most 1.
        discount: how much a reward counts that comes a step later, in [0, 1).
        initial: value of an action before it is taken.
        epsilon: probability of a random action, in [0, 1].
    """

    def __init__(self, rate: float, discount: float, initial: float, epsilon: float) -> None:
        for name, value, allowed, rule in (
            ("rate", rate, 0 < rate <= 1, "above 0 and at most 1"),
            ("discount", discount, 0 <= discount < 1, "at least 0 and below 1"),
            ("epsilon", epsilon, 0 <= epsilon <= 1, "between 0 and 1"),
        ):
            if not allowed:
                raise UserError(f"algorithm.agent.{name}={value}: {rule}")
        self.rate, self.discount, self.initial, self.epsilon = rate, discount, initial, epsilon

    def start(self, trial: TrialStart) -> Table:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: observations or actions cannot be counted.
        """
        environment, actions = trial.environment, trial.environment.actions
        if environment.places is None or actions.continuous:
            raise UserError(
                f"algorithm/agent: QLearning has a table of observations and actions, which cannot be counted in "
                f"{environment.title}; take dataset=dark_room, or another agent"
            )
        shape = (len(trial.numbers), environment.places, actions.count)
        values = torch.full(shape, float(self.initial), device=trial.numbers.device)
        return Table(values, environment, TrialNoise(trial.numbers, actions.count + 1, "policy"))

    def act(self, memory: Table, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        noise, tasks = memory.noise.next(), torch.arange(len(observation), device=observation.device)
        values = memory.values[tasks, memory.environment.place(observation)]
        best = values == values.amax(-1, keepdim=True)
        explores = noise[:, -1:] < self.epsilon
        return torch.where(best | explores, noise[:, :-1], torch.full_like(values, -1.0)).argmax(-1)

    def learn(self, memory: Table, transition: Transition) -> Table:
        """See :meth:`ControlPolicy.learn`."""
        tasks = torch.arange(len(transition.reward), device=transition.reward.device)
        before, after = (memory.environment.place(each) for each in (transition.observation, transition.after))
        memory.time += 1
        cut = memory.time == memory.environment.horizon
        later = memory.values[tasks, after].amax(-1) * (torch.ones_like(transition.done) if cut else ~transition.done)
        place = tasks, before, transition.actions
        error = transition.reward + self.discount * later - memory.values[place]
        memory.values[place] += self.rate * error * transition.real
        memory.time %= memory.environment.horizon
        return memory
