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
class ValueTable:
    """What is known of a task.

    Attributes:
        values: (tasks, places, actions).
        paid: (tasks, places, actions), the last reward of each.
        after: (tasks, places, actions) int64, the place that followed the last time; -1 before the first.
        environment: counts observations.
        noise: random numbers of each step: one for each action, and one that says whether to explore.
        time: steps of the episode so far.
    """

    values: Tensor
    paid: Tensor
    after: Tensor
    environment: Environment
    noise: TrialNoise
    time: int = 0


class QLearning(ControlPolicy):
    """Q-learning (Watkins 1989) with a table of values of each observation and action, which takes the best action.

    Of equal ones it takes a random one. Initial values that are higher than those of what is known make it try everything else
    first. An episode that ends at its horizon was cut short, so the value after its last step counts (Pardo et al. 2018). When
    an episode ends, the last that was seen of each observation and action is learned from again (as in Dyna, Sutton 1990).

    Args:
        rate: how far a value moves towards what was seen, above 0 and at most 1.
        discount: how much a reward counts that comes a step later, in [0, 1).
        initial: value of an action before it is taken.
        epsilon: probability of a random action, in [0, 1].
        replays: how often all that was seen is learned from again when an episode ends.
    """

    def __init__(self, rate: float, discount: float, initial: float, epsilon: float, replays: int = 0) -> None:
        for name, value, allowed, rule in (
            ("rate", rate, 0 < rate <= 1, "above 0 and at most 1"),
            ("discount", discount, 0 <= discount < 1, "at least 0 and below 1"),
            ("epsilon", epsilon, 0 <= epsilon <= 1, "between 0 and 1"),
            ("replays", replays, replays >= 0, "at least 0"),
        ):
            if not allowed:
                raise UserError(f"algorithm.agent.{name}={value}: {rule}")
        self.rate, self.discount, self.initial, self.epsilon = rate, discount, initial, epsilon
        self.replays = replays

    def start(self, trial: TrialStart) -> ValueTable:
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
        after = torch.full(shape, -1, dtype=torch.int64, device=values.device)
        return ValueTable(
            values, torch.zeros_like(values), after, environment, TrialNoise(trial.numbers, actions.count + 1, "policy")
        )

    def act(self, memory: ValueTable, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        noise, tasks = memory.noise.next(), torch.arange(len(observation), device=observation.device)
        values = memory.values[tasks, memory.environment.place(observation)]
        best = values == values.amax(-1, keepdim=True)
        explores = noise[:, -1:] < self.epsilon
        return torch.where(best | explores, noise[:, :-1], torch.full_like(values, -1.0)).argmax(-1)

    def learn(self, memory: ValueTable, transition: Transition) -> ValueTable:
        """See :meth:`ControlPolicy.learn`."""
        tasks = torch.arange(len(transition.reward), device=transition.reward.device)
        before, after = (memory.environment.place(each) for each in (transition.observation, transition.after))
        memory.time += 1
        cut = memory.time == memory.environment.horizon
        goes_on = torch.ones_like(transition.done) if cut else ~transition.done
        later = memory.values[tasks, after].amax(-1) * goes_on
        place = tasks, before, transition.actions
        error = transition.reward + self.discount * later - memory.values[place]
        memory.values[place] += self.rate * error * transition.real
        memory.paid[place] = torch.where(transition.real, transition.reward, memory.paid[place])
        memory.after[place] = torch.where(transition.real & goes_on, after, memory.after[place])
        memory.time %= memory.environment.horizon
        for _ in range(self.replays if memory.time == 0 else 0):
            self._replay(memory)
        return memory

    def _replay(self, memory: ValueTable) -> None:
        """Learn again from the last that was seen of each observation and action, except for ends of episodes."""
        tasks, places, actions = memory.after.shape
        best = memory.values.amax(-1)
        later = best.gather(1, memory.after.clamp(min=0).view(tasks, places * actions)).view_as(memory.values)
        error = memory.paid + self.discount * later - memory.values
        memory.values += self.rate * error * (memory.after >= 0)
