"""The classical algorithms of tabular decision processes, for all tasks of a batch at once.

They know the prior of :class:`~metaloop.control.environments.tabular.TabularMDPs`: transitions are Dirichlet(1, ..., 1), mean
rewards are normal around 1 with a standard deviation of 1, as is a reward around its mean. They plan when an episode begins.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.special import gammaincinv
from torch import Tensor

from metaloop.control.environments.tabular import TabularMDPs, solved
from metaloop.control.noise import TrialNoise, normal
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.errors import UserError


@dataclass
class Experience:
    """What is known of decision processes, and the plan of the episode.

    Attributes:
        moved: (tasks, states, actions, states), how often a state followed.
        paid: (tasks, states, actions), the sums of rewards.
        noise: random numbers of each episode.
        horizon: steps of an episode.
        time: steps of the episode so far.
        plan: for 1 to ``horizon`` steps left, values (tasks, states, actions).
    """

    moved: Tensor
    paid: Tensor
    noise: TrialNoise
    horizon: int
    time: int = 0
    plan: list[Tensor] = field(default_factory=list)

    @property
    def visits(self) -> Tensor:
        """How often each action was taken in each state, (tasks, states, actions)."""
        return self.moved.sum(-1)

    @property
    def transitions(self) -> Tensor:
        """Posterior means of the transition probabilities (tasks, states, actions, states)."""
        return (self.moved + 1) / (self.moved + 1).sum(-1, keepdim=True)

    def rewards(self, prior: float = 1.0) -> Tensor:
        """Posterior means of the mean rewards (tasks, states, actions), for this mean of the prior."""
        return (self.paid + prior) / (self.visits + 1)


class Planner(ControlPolicy):
    """Plans at the start of each episode, and follows the plan."""

    @abstractmethod
    def plan(self, experience: Experience) -> list[Tensor]:
        """Return the values (tasks, states, actions) that the next episode maximizes, for 1 to ``horizon`` steps left."""

    def start(self, trial: TrialStart) -> Experience:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments are no tabular decision processes.
        """
        environment = trial.environment
        if not isinstance(environment, TabularMDPs):
            raise UserError(
                f"algorithm/agent: {type(self).__name__} is an algorithm of tabular decision processes, but these are "
                f"{environment.title}; take dataset=tabular_mdps, or another agent"
            )
        states, actions = environment.states, environment.actions.count
        paid = torch.zeros(len(trial.numbers), states, actions, device=trial.numbers.device)
        noise = TrialNoise(trial.numbers, states * actions * (states + 2), "policy", block=1)
        return Experience(paid[..., None].repeat(1, 1, 1, states), paid, noise, environment.horizon)

    def act(self, memory: Experience, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        if memory.time == 0:
            memory.plan = self.plan(memory)
        values = memory.plan[memory.horizon - memory.time - 1]
        return values[torch.arange(len(values), device=values.device), observation.argmax(-1)].argmax(-1)

    def learn(self, memory: Experience, transition: Transition) -> Experience:
        """See :meth:`ControlPolicy.learn`."""
        tasks = torch.arange(len(transition.reward), device=transition.reward.device)
        place = tasks, transition.observation.argmax(-1), transition.actions
        memory.moved[(*place, transition.after.argmax(-1))] += 1
        memory.paid[place] += transition.reward
        memory.time = (memory.time + 1) % memory.horizon
        return memory


class EstimatingPlanner(Planner):
    """Plans with an estimate of the decision process."""

    @abstractmethod
    def estimate(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """Return the transitions and rewards to plan with in the next episode."""

    def plan(self, experience: Experience) -> list[Tensor]:
        """See :meth:`Planner.plan`."""
        return solved(*self.estimate(experience), experience.horizon)


class PSRL(EstimatingPlanner):
    """Plans with a draw from the posterior: posterior sampling for reinforcement learning (Strens 2000; Osband et al. 2013).

    Args:
        prior_mean: mean reward that is expected before the first visit; that of the tasks is 1.
    """

    def __init__(self, prior_mean: float = 1.0) -> None:
        self.prior_mean = prior_mean

    def estimate(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """See :meth:`EstimatingPlanner.estimate`.

        Dirichlet vectors are gamma numbers over their sum, which invert their distribution.
        """
        _, states, actions, _ = experience.moved.shape
        noise = experience.noise.next().view(-1, states, actions, states + 2)
        drawn = gammaincinv((experience.moved + 1).double().cpu().numpy(), noise[..., :states].double().cpu().numpy())
        gamma = torch.from_numpy(drawn).to(experience.moved).clamp(min=1e-30)
        deviation = (experience.visits + 1).rsqrt()
        rewards = experience.rewards(self.prior_mean) + deviation * normal(noise[..., states], noise[..., states + 1])
        return gamma / gamma.sum(-1, keepdim=True), rewards


class BEB(EstimatingPlanner):
    """Plans with posterior means and a bonus ``beta / (1 + visits)`` for each reward (Kolter and Ng 2009).

    The bonus counts the visits together with the weight of the prior, which is 1.

    Args:
        beta: size of the bonus, at least 0; 0 is greedy.
    """

    def __init__(self, beta: float) -> None:
        if not beta >= 0:
            raise UserError(f"algorithm.agent.beta={beta}: at least 0")
        self.beta = beta

    def estimate(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """See :meth:`EstimatingPlanner.estimate`."""
        return experience.transitions, experience.rewards() + self.beta / (1 + experience.visits)
