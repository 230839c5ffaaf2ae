"""What learners have in common whose policy learns within a trial by its memory."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from metaloop.control.policies import ControlPolicy
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.control.playing import predictor
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.models.adapter import as_model
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs


class MemoryLearner(Learner, ABC):
    """A policy whose memory is not reset within a trial. Adapting is acting: the episodes of the trial are the queries.

    Args:
        model: the embedding of observations, without a head.
        loss: loss of one task.
        actions: actions of the environments.

    Attributes:
        title: name in words, for error messages.
        features: width of an embedded observation.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, actions=True)
    curve_over: ClassVar[str] = "episode"
    transductive = True  # a later episode depends on those before
    title: ClassVar[str]

    def __init__(self, model: nn.Module, loss: TaskLoss, actions: Actions) -> None:
        super().__init__()
        features = as_model(model).features
        if features is None:
            raise UserError(f"model: {self.title} needs the width of what the network returns, as attribute `features`")
        self.model, self.loss, self.actions, self.features = model, loss, actions, features
        self.over_tasks = Loop()  # unused: all tasks of a batch take a step at once

    @abstractmethod
    def policy(self) -> ControlPolicy:
        """Return the policy with the current parameters."""

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; the queries are the episodes of a trial, from which the memory learns."""
        if unlabelled is not None:
            raise UserError(f"{self.title} does not use unlabelled examples; take episode.unlabelled=0")
        return predictor(self.policy(), support)


def refuse_continuous(actions: Actions, title: str) -> None:
    """Raise a UserError if actions are vectors of numbers."""
    if actions.continuous:
        raise UserError(f"algorithm: {title} takes discrete actions, but those of this data set are vectors of numbers")


def check_settings(**settings: tuple[float | None, bool, str]) -> None:
    """Raise a UserError for the first of the settings (value, whether it is allowed, what is) that is not allowed."""
    for name, (value, allowed, rule) in settings.items():
        if not allowed:
            raise UserError(f"algorithm.{name}={value}: {rule}")
