"""Policies without statistics: actions at random, and those of one who is told the task."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from metaloop.control.noise import TrialNoise, chosen
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

    def skip(self, memory: Chance, steps: int) -> bool:
        """See :meth:`ControlPolicy.skip`."""
        memory.noise.skip(steps)
        return True


@dataclass(frozen=True)
class Habit:
    """Memory of :class:`Drawn`: the probabilities of the actions (tasks, actions), and random numbers."""

    probabilities: Tensor
    noise: TrialNoise


class Drawn(ControlPolicy):
    """A policy that is drawn for each trial and learns nothing: behaviour from which others learn (Lee et al. 2023).

    Its probabilities are a mixture, with weights that are drawn from 0, 0.1, ..., 1, of a flat Dirichlet vector and of one
    random action. The authors draw such policies for bandits alone, and take uniform actions in the dark room.
    """

    def start(self, trial: TrialStart) -> Habit:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: actions are continuous.
        """
        actions = trial.environment.actions
        if actions.continuous:
            raise UserError("algorithm/agent=drawn: draws among discrete actions, but these are vectors; take another agent")
        drawn = TrialNoise(trial.numbers, actions.count + 2, "habit", block=1).next()
        flat = -(1 - drawn[:, : actions.count]).clamp(min=1e-7).log()
        one = F.one_hot((drawn[:, -2] * actions.count).long(), actions.count)
        weight = (drawn[:, -1:] * 11).floor() / 10
        probabilities = (1 - weight) * flat / flat.sum(-1, keepdim=True).clamp(min=1e-7) + weight * one
        return Habit(probabilities, TrialNoise(trial.numbers, 1, "policy"))

    def act(self, memory: Habit, observation: Any) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        return chosen(memory.probabilities, memory.noise.next()[:, 0])

    def learn(self, memory: Habit, transition: Transition) -> Habit:
        """See :meth:`ControlPolicy.learn`; nothing is learned."""
        return memory

    def skip(self, memory: Habit, steps: int) -> bool:
        """See :meth:`ControlPolicy.skip`."""
        memory.noise.skip(steps)
        return True


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

    def skip(self, memory: TrialStart, steps: int) -> bool:
        """See :meth:`ControlPolicy.skip`."""
        return True
