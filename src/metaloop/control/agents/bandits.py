"""The classical algorithms of bandits, for all tasks of a batch at once.

Estimates are those of Duan et al. 2016: Bernoulli arms have a uniform prior, as if each had succeeded and failed once. Gaussian
arms have their standard normal prior, as if each had paid 0 once. So every arm has an estimate before its first pull.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from scipy.special import betaincinv
from torch import Tensor

from metaloop.control.agents.gittins import discounted_indices, finite_indices
from metaloop.control.environments.bandits import Bandits, BernoulliBandits
from metaloop.control.noise import TrialNoise, normal
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.control.watching import Belief
from metaloop.errors import UserError


@dataclass
class Pulls:
    """What is known of the arms.

    Attributes:
        pulled: (tasks, arms), how often each was pulled.
        paid: (tasks, arms), the sum of its rewards.
        noise: random numbers.
        left: pulls that are left in the trial.
        bernoulli: whether rewards are 0 or 1.
    """

    pulled: Tensor
    paid: Tensor
    noise: TrialNoise
    left: int
    bernoulli: bool

    @property
    def mean(self) -> Tensor:
        """Posterior mean of each arm (tasks, arms)."""
        return (self.paid + 1) / (self.pulled + 2) if self.bernoulli else self.paid / (self.pulled + 1)

    @property
    def deviation(self) -> Tensor:
        """Posterior standard deviation of each arm's mean (tasks, arms)."""
        return (self.mean * (1 - self.mean) / (self.pulled + 3)).sqrt() if self.bernoulli else (self.pulled + 1) ** -0.5

    @property
    def total(self) -> Tensor:
        """Pulls of each arm with those of the prior (tasks, arms)."""
        return self.pulled + (2 if self.bernoulli else 1)


class IndexPolicy(ControlPolicy):
    """Pulls an arm with the highest index; of equal ones, a random one."""

    def start(self, trial: TrialStart) -> Pulls:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments are no bandits.
        """
        environment = trial.environment
        if not isinstance(environment, Bandits):
            raise UserError(
                f"algorithm/agent: {type(self).__name__} is an algorithm of bandits, but these are {environment.title}; take "
                f"dataset=bernoulli_bandits, or another agent"
            )
        arms = environment.actions.count
        none = torch.zeros(len(trial.numbers), arms, device=trial.numbers.device)
        noise = TrialNoise(trial.numbers, 3 * arms, "policy")  # two numbers for each index, and one to choose from equal ones
        return Pulls(none, none.clone(), noise, trial.episodes, isinstance(environment, BernoulliBandits))

    @abstractmethod
    def index(self, arms: Pulls, noise: Tensor) -> Tensor:
        """Return the index of each arm (tasks, arms); ``noise`` is (tasks, arms, 2), uniform in [0, 1)."""

    def act(self, memory: Pulls, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        noise = memory.noise.next().view(*memory.pulled.shape, 3)
        index = self.index(memory, noise[..., :2])
        best = index == index.amax(-1, keepdim=True)
        return torch.where(best, noise[..., 2], -1.0).argmax(-1)

    def learn(self, memory: Pulls, transition: Transition) -> Pulls:
        """See :meth:`ControlPolicy.learn`."""
        arm = transition.actions[:, None]
        memory.pulled.scatter_add_(1, arm, torch.ones_like(transition.reward)[:, None])
        memory.paid.scatter_add_(1, arm, transition.reward[:, None])
        memory.left -= 1
        return memory

    def belief(self, memory: Pulls) -> Belief:
        """See :meth:`ControlPolicy.belief`; the exact posterior of the arms' means."""
        return Belief(memory.mean, memory.deviation)


class Greedy(IndexPolicy):
    """Pulls the arm with the highest mean so far, with probability ``epsilon`` any other arm.

    Args:
        epsilon: in [0, 1]; 0 is greedy.
    """

    def __init__(self, epsilon: float) -> None:
        if not 0 <= epsilon <= 1:
            raise UserError(f"algorithm.agent.epsilon={epsilon}: between 0 and 1")
        self.epsilon = epsilon

    def index(self, arms: Pulls, noise: Tensor) -> Tensor:
        """See :meth:`IndexPolicy.index`."""
        explores = noise[:, :1, 0] < self.epsilon
        return torch.where(explores, torch.zeros_like(arms.mean), arms.mean)


class UCB1(IndexPolicy):
    """Pulls the arm with the highest upper confidence bound, mean + c sqrt(2 log t / pulls) at pull t (Auer et al. 2002).

    Means and pulls count the prior, and ``c`` is tuned, as in Duan et al. 2016.

    Args:
        c: width of the bounds, at least 0; 1 is the authors'.
    """

    def __init__(self, c: float) -> None:
        if not c >= 0:
            raise UserError(f"algorithm.agent.c={c}: at least 0")
        self.c = c

    def index(self, arms: Pulls, noise: Tensor) -> Tensor:
        """See :meth:`IndexPolicy.index`."""
        time = arms.pulled.sum(1, keepdim=True) + 1
        return arms.mean + self.c * (2 * time.log() / arms.total).sqrt()


class Thompson(IndexPolicy):
    """Pulls the arm with the highest draw from its posterior (Thompson 1933).

    Args:
        optimistic: a draw below the posterior's mean counts as the mean (May et al. 2012).
    """

    def __init__(self, optimistic: bool) -> None:
        self.optimistic = optimistic

    def index(self, arms: Pulls, noise: Tensor) -> Tensor:
        """See :meth:`IndexPolicy.index`; draws from beta distributions invert their distribution function."""
        if arms.bernoulli:
            a, b, uniform = (
                part.double().cpu().numpy() for part in (arms.paid + 1, arms.pulled - arms.paid + 1, noise[..., 0])
            )
            drawn = torch.from_numpy(betaincinv(a, b, uniform)).to(arms.paid)
        else:
            drawn = arms.mean + normal(noise[..., 0], noise[..., 1]) / (arms.pulled + 1).sqrt()
        return torch.maximum(drawn, arms.mean) if self.optimistic else drawn


class Gittins(IndexPolicy):
    """Pulls the arm with the highest Gittins index, of Bernoulli bandits (Gittins 1979).

    Args:
        discount: the index for endlessly many pulls, each of which counts so much of the one before, for which pulling the
            highest index is the best policy; None for the index of the pulls that are left, each of which counts the same.
    """

    def __init__(self, discount: float | None) -> None:
        self.discount = discount

    def start(self, trial: TrialStart) -> Pulls:
        """See :meth:`ControlPolicy.start`."""
        arms = super().start(trial)
        if not arms.bernoulli:
            raise UserError("algorithm/agent=gittins: the indices are those of Bernoulli arms; take dataset=bernoulli_bandits")
        return arms

    def index(self, arms: Pulls, noise: Tensor) -> Tensor:
        """See :meth:`IndexPolicy.index`."""
        successes, failures = arms.paid.long(), (arms.pulled - arms.paid).long()
        total = arms.left + int(arms.pulled[0].sum())
        table = _table(total, self.discount)
        return (table if isinstance(table, Tensor) else table[arms.left]).to(arms.paid)[successes, failures]


@cache
def _table(pulls: int, discount: float | None) -> list[Tensor] | Tensor:
    """The indices of a trial, computed once in a process."""
    return finite_indices(pulls) if discount is None else discounted_indices(pulls, discount)
