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
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.control.memory_policy import ActorCritic, MemoryPolicy
from metaloop.learners.control.playing import predictor, world_of
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.models.adapter import as_model
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks


class Imitation(Learner):
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
    """

    requires: ClassVar[Requirements] = Requirements(head=False, actions=True)
    curve_over: ClassVar[str] = "episode"
    transductive = True  # a later episode depends on those before

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
    ) -> None:
        super().__init__()
        _check(label, agent, own, every)
        if actions.continuous:
            raise UserError("algorithm: imitation predicts discrete actions, but those of this data set are vectors of numbers")
        features = as_model(model).features
        if features is None:
            raise UserError("model: imitation needs the width of what the network returns, as attribute `features`")
        self.model, self.loss, self.actions = model, loss, actions
        self.network = ActorCritic(features, actions.count, memory, critic=False)
        self.agent, self.label, self.own, self.every = agent, label, own, every
        self.over_tasks = Loop()  # unused: all tasks of a batch take a step at once

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; the queries are the episodes of a trial, from which the memory learns."""
        if unlabelled is not None:
            raise UserError("imitation does not use unlabelled examples; take episode.unlabelled=0")
        return predictor(self._policy(), support)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; plays histories and returns the cross-entropy of their labels."""
        numbers = tasks.support.number
        assert numbers is not None
        world = world_of(tasks.support)
        by_learner = TrialNoise(numbers, 1, "who acts").next()[:, 0] < self.own
        losses = self.network.preferences.weight.new_zeros(len(numbers))
        returns = torch.zeros_like(tasks.query.y)
        for chosen, policy, every in ((~by_learner, self.agent, self.every), (by_learner, self._policy(), 1)):
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
        log_probabilities, _ = self._policy().reread(history)
        each = -log_probabilities.gather(-1, self.label.of(history)[..., None])[..., 0]
        return (each * history.real).sum(0) / history.real.sum(0)

    def _policy(self) -> MemoryPolicy:
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
