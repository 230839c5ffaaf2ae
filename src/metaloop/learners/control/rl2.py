"""RL²: a recurrent policy that learns, by its memory, within a trial (Duan et al. 2016; Wang et al. 2016)."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import Rollouts, play
from metaloop.errors import UserError
from metaloop.learners.control.advantages import generalized_advantages
from metaloop.learners.control.memory_learner import check_settings, refuse_continuous
from metaloop.learners.control.memory_policy import ActorCritic, MemoryPolicy
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.learners.control.proximal import ProximalLearner, ProximalSettings
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import OuterLoss, Tasks


class RL2(ProximalLearner):
    """A policy with a memory that goes on from episode to episode, meta-trained by PPO on whole trials.

    The authors use TRPO; docs/control_in_context.md says what else differs.

    Args:
        model: the embedding of observations, without a head.
        loss: loss of one task.
        actions: actions of the environments.
        memory: builds the memory from the width of its ``inputs``.
        discount, trace, clip, value_weight, entropy, renew, shortest, growing, last_entropy: see :class:`ProximalSettings`.
        deviation: deviation of continuous actions at the start, above 0.
        whole_transitions: whether the memory reads the last observation beside the present one.
        agent: who acts in the first ``imitated`` outer steps; None if that is nobody. The policy learns to predict its actions
            by cross-entropy, and the value to predict its rewards, and goes on by PPO from there. In tasks in which chance
            policies see little reward for remembering, PPO alone hardly begins.
        imitated: number of those outer steps.
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
        deviation: float = 1.0,
        whole_transitions: bool = False,
        agent: ControlPolicy | None = None,
        imitated: int = 0,
    ) -> None:
        _check_imitation(agent, imitated, actions)
        settings = ProximalSettings(discount, trace, clip, value_weight, entropy, renew, shortest, growing, last_entropy)

        def network(features: int) -> ActorCritic:
            return ActorCritic(features, actions, memory, deviation=deviation, whole_transitions=whole_transitions)

        super().__init__(model, loss, actions, network, settings)
        self.agent, self.imitated = agent, imitated

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; the first ``imitated`` outer steps learn from the agent's trials."""
        if self.agent is None or self.outer_step >= self.imitated:
            return super().meta_loss(tasks)
        with torch.no_grad():
            rollouts = play(world_of(tasks.support), numbers_of(tasks.support), self.agent)
        losses = self.imitation(rollouts)
        return OuterLoss(losses.mean(), rollouts.returns, losses.detach()[:, None])

    def policy_of(self, model: nn.Module, network: nn.Module) -> MemoryPolicy:
        """See :meth:`ProximalLearner.policy_of`."""
        assert isinstance(network, ActorCritic)
        return MemoryPolicy(model, network, self.actions)

    def losses(self, rollouts: Rollouts, numbers: Tensor) -> Tensor:
        """See :meth:`ProximalLearner.losses`."""
        return self.surrogate(rollouts)

    def imitation(self, rollouts: Rollouts) -> Tensor:
        """Cross-entropy of an agent's actions and squared error of its rewards to come (tasks,), means over steps."""
        policy = self.policy()
        outputs, means = policy.reread(rollouts)
        assert means is not None
        left = torch.arange(len(means), 0, -1, device=means.device, dtype=means.dtype)[:, None]
        zero = torch.zeros_like(means)
        ahead = generalized_advantages(rollouts.rewards, zero, rollouts.real, self.settings.discount, trace=1.0)
        taken = policy.distribution.log_probability(outputs, rollouts.actions)
        each = self.settings.value_weight * (means - ahead / left) ** 2 - taken
        return (each * rollouts.real).mean(0)


def _check_imitation(agent: ControlPolicy | None, imitated: int, actions: Actions) -> None:
    """Raise a UserError unless the settings go together."""
    check_settings(imitated=(imitated, imitated >= 0, "at least 0"))
    if imitated and agent is None:
        raise UserError(f"algorithm.imitated={imitated}: there is nobody to imitate; take algorithm/agent=beb or another agent")
    if agent is not None and imitated:
        refuse_continuous(actions, "the imitation of an agent")
        if agent.told:
            raise UserError(
                "algorithm/agent: the actions of an agent that is told the task give the best ones away, which the policy "
                "would copy without learning to find out; take another agent"
            )
