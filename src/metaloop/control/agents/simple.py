"""Policies without statistics: actions at random, and those of one who is told the task."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.errors import UserError
from metaloop.problems.control import Actions


@dataclass(frozen=True)
class Chance:
    """Memory of :class:`Random`: the actions that exist, and random numbers."""

    actions: Actions
    noise: TrialNoise


class Random(ControlPolicy):
    """Uniformly random actions: of discrete ones each with the same probability, of continuous ones each entry in [-1, 1]."""

    def start(self, trial: TrialStart) -> Chance:
        """See :meth:`ControlPolicy.start`."""
        actions = trial.environment.actions
        return Chance(actions, TrialNoise(trial.numbers, actions.count if actions.continuous else 1, "policy"))

    def act(self, memory: Chance, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        noise = memory.noise.next()
        return 2 * noise - 1 if memory.actions.continuous else (noise[:, 0] * memory.actions.count).long()

    def learn(self, memory: Chance, transition: Transition) -> Chance:
        """See :meth:`ControlPolicy.learn`; nothing is learned."""
        return memory


class Told(ControlPolicy):
    """The best actions for tasks that are known: the oracle."""

    told: ClassVar[bool] = True

    def start(self, trial: TrialStart) -> TrialStart:
        """See :meth:`ControlPolicy.start`."""
        if trial.parameters is None:
            raise UserError("the oracle must be told the tasks")
        return trial

    def act(self, memory: TrialStart, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        assert memory.parameters is not None
        return memory.environment.best_actions(memory.parameters, *observation)

    def learn(self, memory: TrialStart, transition: Transition) -> TrialStart:
        """See :meth:`ControlPolicy.learn`; nothing is learned."""
        return memory
