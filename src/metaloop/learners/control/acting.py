"""The learner of the classical algorithms: a policy that knows nothing when a task begins."""

from typing import ClassVar

import torch
from torch import nn

from metaloop.control.policies import ControlPolicy
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.control.playing import predictor
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Tasks


class Acting(Learner):
    """Plays every trial with an agent, a policy that learns within the trial alone. Nothing is learned from task to task.

    Args:
        model: the network, which is not used.
        loss: loss of one task.
        actions: actions of the environments.
        agent: the policy.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, actions=True)
    curve_over: ClassVar[str] = "episode"
    learns = False
    transductive = True  # a later episode depends on those before

    def __init__(self, model: nn.Module, loss: TaskLoss, actions: Actions, agent: ControlPolicy) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.agent = agent
        self.over_tasks = Loop()  # unused: all tasks of a batch take a step at once
        self.idle = nn.Parameter(torch.zeros(()))  # the optimizer of the one outer step needs a parameter

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; the queries are the episodes of a trial, in which the agent learns."""
        if unlabelled is not None:
            raise UserError("agents do not use unlabelled examples; take episode.unlabelled=0")
        return predictor(self.agent, support)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; its gradient is zero."""
        returns = self.adapt(tasks.support)(tasks.query.x)
        losses = (tasks.query.y - returns).mean(1)
        return OuterLoss(losses.mean() + 0 * self.idle, returns, losses[:, None])
