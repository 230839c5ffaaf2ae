"""RL²: a recurrent policy that learns, by its memory, within a trial (Duan et al. 2016; Wang et al. 2016)."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.control.rollouts import Rollouts, play
from metaloop.learners.control.advantages import generalized_advantages
from metaloop.learners.control.memory_learner import MemoryLearner, check_settings, refuse_continuous
from metaloop.learners.control.memory_policy import ActorCritic, MemoryPolicy
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import OuterLoss, Tasks


class RL2(MemoryLearner):
    """A policy with a memory that is meta-trained by proximal policy optimization (PPO, Schulman et al. 2017) on whole trials.

    A trial is one long episode for PPO: the memory and the returns go on from episode to episode, so that exploring early is
    worth what it earns later. Every outer step plays the trials of its meta-batch and takes one step on PPO's clipped
    surrogate, with generalized advantages (Schulman et al. 2016). Playing costs a quarter of such a step, so no trial is used
    twice: with ``renew`` above 1, the policy that plays stays the same for so many outer steps, which together are one epoch of
    PPO in so many minibatches, and with 1 it is the current policy. The authors use TRPO; docs/control.md says what else
    differs.

    The value head predicts the mean reward of the steps that are left, which keeps its scale as a trial goes on. Advantages are
    not standardized over the meta-batch, so that ranks that share it take the same step as one.

    Args:
        model: the embedding of observations, without a head.
        loss: loss of one task.
        actions: actions of the environments, which must be discrete.
        memory: builds the memory from the width of its ``inputs``.
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
    """

    title: ClassVar[str] = "RL²"

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        memory: Callable[..., TrialMemory],
        *,
        discount: float,
        trace: float,
        clip: float,
        value_weight: float,
        entropy: float,
        renew: int,
        shortest: int | None = None,
        growing: int = 0,
        last_entropy: float | None = None,
    ) -> None:
        check_settings(
            discount=(discount, 0 < discount <= 1, "above 0 and at most 1"),
            trace=(trace, 0 <= trace <= 1, "between 0 and 1"),
            clip=(clip, clip > 0, "above 0"),
            value_weight=(value_weight, value_weight >= 0, "at least 0"),
            entropy=(entropy, entropy >= 0, "at least 0"),
            renew=(renew, renew >= 1, "at least 1"),
            shortest=(shortest, shortest is None or shortest >= 1, "at least 1, or null for whole trials from the start"),
            growing=(growing, growing >= 0, "at least 0"),
            last_entropy=(last_entropy, last_entropy is None or last_entropy >= 0, "at least 0, or null for that of the start"),
        )
        refuse_continuous(actions, self.title)
        super().__init__(model, loss, actions)
        self.network = ActorCritic(self.features, actions.count, memory)
        self.discount, self.trace, self.clip, self.renew = discount, trace, clip, renew
        self.value_weight = value_weight
        self.entropy, self.last_entropy = entropy, entropy if last_entropy is None else last_entropy
        self.shortest, self.growing = shortest, growing
        played_by = copy.deepcopy([model, self.network]) if renew > 1 else []
        self.played_by = nn.ModuleList(played_by)  # the policy that plays, as it was when it was renewed
        self.played_by.requires_grad_(False)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; plays the tasks' trials and returns PPO's surrogate."""
        world, numbers = world_of(tasks.support), numbers_of(tasks.support)
        episodes = self.episodes(world.episodes)
        with torch.no_grad():
            rollouts = play(replace(world, episodes=episodes), numbers, self._player())
        losses = self._surrogate(rollouts)
        returns = F.pad(rollouts.returns, (0, world.episodes - episodes))  # 0 of episodes that were not played
        return OuterLoss(losses.mean(), returns, losses.detach()[:, None])

    def episodes(self, whole: int) -> int:
        """Number of episodes of this outer step's trials, of ``whole`` in the end."""
        if self.shortest is None or self.shortest >= whole or self.outer_step >= self.growing:
            return whole
        return round(self.shortest * math.exp(math.log(whole / self.shortest) * self.outer_step / self.growing))

    @property
    def entropy_weight(self) -> float:
        """Weight of the policy's entropy in this outer step."""
        share = min(1.0, self.outer_step / self.growing) if self.growing else 1.0
        return self.entropy + share * (self.last_entropy - self.entropy)

    def policy(self) -> MemoryPolicy:
        """See :meth:`MemoryLearner.policy`."""
        return MemoryPolicy(self.model, self.network, self.actions)

    def _player(self) -> MemoryPolicy:
        """The policy that plays in this outer step."""
        if self.renew == 1:
            return self.policy()
        model, network = self.played_by
        if self.outer_step % self.renew == 0:
            model.load_state_dict(self.model.state_dict())
            network.load_state_dict(self.network.state_dict())
        assert isinstance(network, ActorCritic)
        return MemoryPolicy(model, network, self.actions)

    def _surrogate(self, rollouts: Rollouts) -> Tensor:
        """PPO's loss of each trial, (tasks,)."""
        log_probabilities, means = self.policy().reread(rollouts)
        assert means is not None
        left = torch.arange(len(means), 0, -1, device=means.device, dtype=means.dtype)[:, None]
        values = means * left
        advantages = generalized_advantages(rollouts.rewards, values.detach(), rollouts.real, self.discount, self.trace)
        taken = log_probabilities.gather(-1, rollouts.actions[..., None])[..., 0]
        ratio = (taken - torch.stack(rollouts.memory.log_probabilities)).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(1 - self.clip, 1 + self.clip) * advantages)
        error = ((values - (values.detach() + advantages)) / left) ** 2
        entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
        each = -gain + self.value_weight * error - self.entropy_weight * entropy
        return (each * rollouts.real).mean(0)
