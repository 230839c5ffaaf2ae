"""Policies that learn to learn by imitation: a memory predicts actions from the history of a trial.

Which histories, and which actions, are choices. Algorithm distillation (Laskin et al. 2022) predicts the actions of a learning
algorithm from its own histories. A decision-pretrained policy (Lee et al. 2023) predicts the best actions from histories of
anyone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.control.environments.environment import World
from metaloop.control.labels import ActionLabel
from metaloop.control.memories import TrialMemory
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import Rollouts, play
from metaloop.errors import UserError
from metaloop.learners.control.memory_learner import MemoryLearner, refuse_continuous
from metaloop.learners.control.memory_policy import ActorCritic, MemoryPolicy
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import OuterLoss, Params, Tasks


class Imitation(MemoryLearner):
    """A policy with a memory that is meta-trained to predict the label of every step of a history, by cross-entropy.

    It then acts by what it predicts of its own history, with actions that are drawn from its prediction.

    Args:
        model: the embedding of observations, without a head.
        loss: loss of one task.
        actions: actions of the environments, which must be discrete.
        memory: builds the memory from the width of its ``inputs``.
        agent: who acts in the histories.
        label: what is predicted.
        own: probability that the learner itself acts in a history of meta-training in the place of the agent, in [0, 1].
        every: the histories have each ``every``-th episode of the agent's, which makes its learning as much faster.
        whole_transitions: whether the memory reads the last observation beside the present one.
    """

    title: ClassVar[str] = "imitation"

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        memory: Callable[..., TrialMemory],
        agent: ControlPolicy,
        label: ActionLabel,
        *,
        own: float,
        every: int,
        whole_transitions: bool = False,
    ) -> None:
        _check(label, agent, own, every)
        refuse_continuous(actions, self.title)
        super().__init__(model, loss, actions)
        self.network = ActorCritic(self.features, actions, memory, critic=False, whole_transitions=whole_transitions)
        self.agent, self.label, self.own, self.every = agent, label, own, every

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; plays histories and returns the cross-entropy of their labels."""
        world, numbers = world_of(tasks.support), numbers_of(tasks.support)
        by_learner = TrialNoise(numbers, 1, "who acts").next()[:, 0] < self.own
        losses = self.network.preferences.weight.new_zeros(len(numbers))
        returns = torch.zeros_like(tasks.query.y)
        for chosen, policy, every in ((~by_learner, self.agent, self.every), (by_learner, self.policy(), 1)):
            if bool(chosen.any()):
                with torch.no_grad():
                    history = self._history(world, numbers, chosen, policy, every)
                losses = losses.masked_scatter(chosen, self._cross_entropy(history))
                returns[chosen] = history.returns.to(returns)
        return OuterLoss(losses.mean(), returns, losses.detach()[:, None])

    def _history(self, world: World, numbers: Tensor, chosen: Tensor, policy: ControlPolicy, every: int) -> Rollouts:
        """Histories of the chosen tasks, of each ``every``-th episode of so many more."""
        parameters: Params = {name: value[chosen] for name, value in world.parameters.items()}
        longer = replace(world, parameters=parameters, episodes=world.episodes * every)
        return play(longer, numbers[chosen], policy, best=self.label.best).each(every)

    def _cross_entropy(self, history: Rollouts) -> Tensor:
        """The mean cross-entropy of each task's labels, in nats."""
        log_probabilities, _ = self.policy().reread(history)
        each = -log_probabilities.gather(-1, self.label.of(history)[..., None])[..., 0]
        return (each * history.real).sum(0) / history.real.sum(0)

    def policy(self) -> MemoryPolicy:
        """See :meth:`MemoryLearner.policy`."""
        return MemoryPolicy(self.model, self.network, self.actions)


def _check(label: ActionLabel, agent: ControlPolicy, own: float, every: int) -> None:
    """Raise a UserError unless the choices go together."""
    if not 0 <= own <= 1:
        raise UserError(f"algorithm.own={own}: between 0 and 1")
    if every < 1:
        raise UserError(f"algorithm.every={every}: at least 1")
    if own and not label.best:
        raise UserError(
            f"algorithm.own={own}: a learner that predicts its own actions learns nothing; take algorithm.own=0 or "
            f"algorithm/label=best"
        )
    if agent.told and label.best:
        raise UserError(
            "algorithm/agent: the actions of an agent that is told the task give the best ones away, which the learner would "
            "copy without learning to find out; take another agent"
        )
