"""Disco103 as a learner: agents that learn from scratch by the published rule."""

from typing import ClassVar

import torch
from torch import nn

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.control.update_rules.agents import FreshEmbedding
from metaloop.learners.control.update_rules.disco.agent import DiscoAgent
from metaloop.learners.control.update_rules.disco.network import MetaNetwork
from metaloop.learners.control.update_rules.disco.rule import DiscoUpdate
from metaloop.learners.control.update_rules.disco.weights import Layers, load_weights
from metaloop.learners.control.update_rules.lifetimes import (
    Lifetimes,
    check_lifetimes,
    lifetimes_of,
    predictor_of,
    refuse_unlabelled,
)
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Tasks


class Disco103(Learner):
    """Lets an agent learn in each task by Disco103 (Oh et al. 2025), whose weights are published. Nothing is meta-trained.

    Between two updates an agent plays streams of episodes; each is learned from once. The queries are further episodes.

    Args:
        model: the agents' torso, without a head; its weights are drawn anew for each agent.
        loss: loss of one task.
        actions: actions of the environments, which must be discrete.
        weights: the file of the rule's weights, ``disco_103.npz``.
        tabular: whether the torso is a one-hot vector of the observation's number.
        units: of the LSTM that takes a step for each action.
        hidden: units of the networks that read it.
        rate: learning rate of the agents, above 0.
        updates: of a lifetime.
        streams: streams that an agent plays at once between two updates.
        episodes: episodes of a stream.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, actions=True)
    curve_over: ClassVar[str] = "update"
    learns = False
    transductive = False

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        *,
        weights: str,
        tabular: bool,
        units: int,
        hidden: int,
        rate: float,
        updates: int,
        streams: int,
        episodes: int,
    ) -> None:
        super().__init__()
        check_lifetimes(actions, units=units, hidden=hidden, updates=updates, streams=streams, episodes=episodes)
        if not rate > 0:
            raise UserError(f"algorithm.rate={rate}: above 0")
        self.model, self.actions = model.requires_grad_(False), actions
        self.agent = DiscoAgent(FreshEmbedding(model, tabular), actions.count, units, hidden)
        self.rate, self.updates, self.streams, self.episodes = rate, updates, streams, episodes
        self._names = {}
        for number, (name, value) in enumerate(load_weights(weights).items()):
            self._names[name] = f"rule_{number}"
            self.register_buffer(self._names[name], value, persistent=False)
        self.over_tasks = Loop()  # unused: all tasks of a batch take a step at once
        self.idle = nn.Parameter(torch.zeros(()))  # the optimizer of the one outer step needs a parameter

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def network(self) -> MetaNetwork:
        """The rule's meta-network."""
        return MetaNetwork(Layers({name: self.get_buffer(buffer) for name, buffer in self._names.items()}))

    def lifetimes(self, support: Examples) -> Lifetimes:
        """The lifetimes in the tasks of a support set."""
        return lifetimes_of(support, self.actions, self.agent.logits, self.streams, self.episodes)

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; the queries are episodes of agents after their lifetimes, the answers returns."""
        refuse_unlabelled(unlabelled)
        lifetimes = self.lifetimes(support)
        update = DiscoUpdate(self.network(), self.agent, lifetimes.world.environment, self.rate)
        return predictor_of(lifetimes, update.start(lifetimes.numbers), update, self.updates, lambda life: life.params)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; its gradient is zero, and agents do not live."""
        returns = torch.zeros_like(tasks.query.y)
        return OuterLoss(0 * self.idle, returns, returns.mean(1, keepdim=True))
