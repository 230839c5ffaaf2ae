"""Proximal policy optimization of policies that learn within a trial."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.rollouts import Rollouts, play
from metaloop.learners.control.advantages import generalized_advantages
from metaloop.learners.control.memory_learner import MemoryLearner, check_settings
from metaloop.learners.control.memory_policy import StochasticPolicy
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import OuterLoss, Tasks


@dataclass(frozen=True)
class ProximalSettings:
    """Settings of proximal policy optimization on trials.

    Attributes:
        discount: how much a reward counts that comes a step later, in (0, 1].
        trace: lambda of the generalized advantages, in [0, 1]; 1 compares the whole return with the value.
        clip: largest relative change of an action's probability that the surrogate rewards.
        value_weight: weight of the squared error of values.
        entropy: weight of the policy's entropy, in nats, as a reward for exploring.
        renew: outer steps after which the policy that plays is renewed.
        shortest: episodes of a training trial in the first outer step; None for whole trials from the start.
        growing: outer steps over which training trials grow from ``shortest`` to whole ones, each by the same factor. Short
            trials cost less and their advantages vary less, and what they teach is where longer ones begin.
        last_entropy: ``entropy`` after ``growing`` outer steps, to which it moves by equal steps; None for the same.

    Raises:
        UserError: a setting is out of its range; the message names its key under ``algorithm``.
    """

    discount: float
    trace: float
    clip: float
    value_weight: float
    entropy: float
    renew: int
    shortest: int | None = None
    growing: int = 0
    last_entropy: float | None = None

    def __post_init__(self) -> None:
        last, shortest = self.last_entropy, self.shortest
        check_settings(
            discount=(self.discount, 0 < self.discount <= 1, "above 0 and at most 1"),
            trace=(self.trace, 0 <= self.trace <= 1, "between 0 and 1"),
            clip=(self.clip, self.clip > 0, "above 0"),
            value_weight=(self.value_weight, self.value_weight >= 0, "at least 0"),
            entropy=(self.entropy, self.entropy >= 0, "at least 0"),
            renew=(self.renew, self.renew >= 1, "at least 1"),
            shortest=(shortest, shortest is None or shortest >= 1, "at least 1, or null for whole trials from the start"),
            growing=(self.growing, self.growing >= 0, "at least 0"),
            last_entropy=(last, last is None or last >= 0, "at least 0, or null for that of the start"),
        )

    def episodes(self, outer_step: int, whole: int) -> int:
        """Number of episodes of an outer step's trials, of ``whole`` in the end."""
        if self.shortest is None or self.shortest >= whole or outer_step >= self.growing:
            return whole
        return round(self.shortest * math.exp(math.log(whole / self.shortest) * outer_step / self.growing))

    def entropy_weight(self, outer_step: int) -> float:
        """Weight of the policy's entropy in an outer step."""
        share = min(1.0, outer_step / self.growing) if self.growing else 1.0
        last = self.entropy if self.last_entropy is None else self.last_entropy
        return self.entropy + share * (last - self.entropy)


class ProximalLearner(MemoryLearner):
    """A policy that is meta-trained by proximal policy optimization (PPO, Schulman et al. 2017) on whole trials.

    A trial is one long episode for PPO: the returns go on from episode to episode, so that exploring early is worth what it
    earns later. Every outer step plays the trials of its meta-batch and takes one step on PPO's clipped surrogate, with
    generalized advantages (Schulman et al. 2016). Playing costs a quarter of such a step, so no trial is used twice: with
    ``renew`` above 1, the policy that plays stays the same for so many outer steps, which together are one epoch of PPO in so
    many minibatches, and with 1 it is the current policy.

    The value head predicts the mean reward of the steps that are left, which keeps its scale as a trial goes on. Advantages are
    not standardized over the meta-batch, so that ranks that share it take the same step as one.

    Args:
        model: the embedding of observations, without a head.
        loss: loss of one task.
        actions: actions of the environments.
        network: builds the policy's other networks from the width of an embedded observation.
        settings: settings of the optimization.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        network: Callable[[int], nn.Module],
        settings: ProximalSettings,
    ) -> None:
        super().__init__(model, loss, actions)
        self.network = network(self.features)
        self.settings = settings
        played_by = copy.deepcopy([model, self.network]) if settings.renew > 1 else []
        self.played_by = nn.ModuleList(played_by)  # the policy that plays, as it was when it was renewed
        self.played_by.requires_grad_(False)

    @abstractmethod
    def policy_of(self, model: nn.Module, network: nn.Module) -> StochasticPolicy:
        """Return the policy with these networks."""

    @abstractmethod
    def losses(self, rollouts: Rollouts, numbers: Tensor) -> Tensor:
        """Return the loss of each trial (tasks,): :meth:`surrogate`, and what else is learned from trials."""

    def policy(self) -> StochasticPolicy:
        """See :meth:`MemoryLearner.policy`."""
        return self.policy_of(self.model, self.network)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; plays the tasks' trials and returns the loss of them."""
        world, numbers = world_of(tasks.support), numbers_of(tasks.support)
        episodes = self.episodes(world.episodes)
        with torch.no_grad():
            rollouts = play(replace(world, episodes=episodes), numbers, self._player())
        losses = self.losses(rollouts, numbers)
        returns = F.pad(rollouts.returns, (0, world.episodes - episodes))  # 0 of episodes that were not played
        return OuterLoss(losses.mean(), returns, losses.detach()[:, None])

    def episodes(self, whole: int) -> int:
        """Number of episodes of this outer step's trials, of ``whole`` in the end."""
        return self.settings.episodes(self.outer_step, whole)

    @property
    def entropy_weight(self) -> float:
        """Weight of the policy's entropy in this outer step."""
        return self.settings.entropy_weight(self.outer_step)

    def _player(self) -> StochasticPolicy:
        """The policy that plays in this outer step."""
        if self.settings.renew == 1:
            return self.policy()
        model, network = self.played_by
        if self.outer_step % self.settings.renew == 0:
            model.load_state_dict(self.model.state_dict())
            network.load_state_dict(self.network.state_dict())
        return self.policy_of(model, network)

    def surrogate(self, rollouts: Rollouts) -> Tensor:
        """PPO's loss of each trial, (tasks,)."""
        settings, policy = self.settings, self.policy()
        outputs, means = policy.reread(rollouts)
        assert means is not None
        left = torch.arange(len(means), 0, -1, device=means.device, dtype=means.dtype)[:, None]
        values = means * left
        advantages = generalized_advantages(rollouts.rewards, values.detach(), rollouts.real, settings.discount, settings.trace)
        taken = policy.distribution.log_probability(outputs, rollouts.actions)
        ratio = (taken - torch.stack(rollouts.memory.log_probabilities)).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(1 - settings.clip, 1 + settings.clip) * advantages)
        error = ((values - (values.detach() + advantages)) / left) ** 2
        each = -gain + settings.value_weight * error - self.entropy_weight * policy.distribution.entropy(outputs)
        return (each * rollouts.real).mean(0)
