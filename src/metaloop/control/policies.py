"""The interface of policies: what acts in the environments of stacked tasks, and learns within a trial."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from metaloop.control.environments.environment import Environment
from metaloop.control.watching import Belief
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import Params


@dataclass(frozen=True)
class TrialStart:
    """What a policy is told before it acts.

    Attributes:
        environment: the family of environments.
        numbers: (tasks,) int64, the numbers of the stacked tasks, on the device of all tensors. A policy draws its randomness
            from them by :class:`~metaloop.control.noise.TrialNoise`.
        episodes: number of episodes of the trial.
        parameters: parameters of the tasks, (tasks, ...) each, for a policy that is ``told`` them; None for others.
    """

    environment: Environment
    numbers: Tensor
    episodes: int
    parameters: Params | None

    def check_actions(self, actions: Actions) -> None:
        """Raise a UserError unless the environments have the actions that a policy was made for."""
        if self.environment.actions != actions:
            raise UserError(
                f"dataset.environment: tasks of {self.environment.title} have {self.environment.actions}, but this policy was "
                f"made for {actions}"
            )


@dataclass(frozen=True)
class Transition:
    """A step of every task, as a policy sees it.

    Attributes:
        observation: (tasks, *input), before the step.
        actions: (tasks,) int64, or float (tasks, count).
        reward: (tasks,); 0 after the end of an episode.
        after: (tasks, *input), the observation after the step.
        done: (tasks,) bool, whether the episode has ended.
        real: (tasks,) bool, False after the end of an episode, until those of all tasks have ended.
    """

    observation: Tensor
    actions: Tensor
    reward: Tensor
    after: Tensor
    done: Tensor
    real: Tensor


class ControlPolicy(ABC):
    """A policy. Its memory of a trial is an argument and a result, so that one policy can act in many trials.

    Attributes:
        told: whether it knows the tasks, as an oracle does; it then observes states.
    """

    told: ClassVar[bool] = False

    @abstractmethod
    def start(self, trial: TrialStart) -> Any:
        """Return the memory at the start of a trial.

        Raises:
            UserError: the policy cannot act in these environments.
        """

    @abstractmethod
    def act(self, memory: Any, observation: Any) -> Tensor:
        """Choose actions: (tasks,) int64, or float (tasks, count) if they are continuous.

        Args:
            memory: of the trial so far.
            observation: (tasks, *input); states and steps left for a policy that is ``told``.
        """

    @abstractmethod
    def learn(self, memory: Any, transition: Transition) -> Any:
        """Return the memory after a step; tensors of ``memory`` may be changed in place."""

    def skip(self, memory: Any, steps: int) -> bool:
        """Change the memory as so many steps would in which all episodes have ended; return False if they must be taken."""
        return False

    def belief(self, memory: Any) -> Belief | None:
        """Return what the policy believes of the tasks at this point of a trial; None if it has no posterior."""
        return None
