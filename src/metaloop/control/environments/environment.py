"""The interface of environments: a family of them is a distribution of tasks, and all tasks of a batch take a step at once."""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node

from metaloop.control.environments.drawings import Drawing, Map
from metaloop.control.watching import Watch
from metaloop.data.distribution import Dataset, TaskDistribution, check_split
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.control import Actions, Control
from metaloop.types import EpisodeSpec, Examples, Params, Tasks

SCORES = ("total", "mean")


@dataclass(frozen=True)
class Step:
    """What a step of every task leads to.

    Attributes:
        state: (tasks, ...) each, the new states.
        reward: (tasks,) float.
        done: (tasks,) bool, whether the episode has ended; None if every episode lasts ``horizon`` steps.
    """

    state: Params
    reward: Tensor
    done: Tensor | None = None


class Environment(TaskDistribution):
    """A family of environments, each of which is a task.

    A task is a set of ``parameters``, a pure function of seed, split and its number. A learner acts for a number of episodes
    (``episode.queries``), which start anew and share the parameters. All methods take stacked tasks and are pure functions:
    what is random is an argument, uniform numbers in [0, 1) that are a function of task and step. So policies can be compared
    on the same tasks with the same noise. The tensors are on the device of the parameters.

    Attributes:
        actions: the actions.
        horizon: most steps of an episode.
        noise: uniform numbers that a step of a task needs.
        start_noise: uniform numbers that the start of an episode needs.
        title: name in words, such as "5 Bernoulli arms".
        places: number of different observations; None if they are not counted.
        watch: keeps the states of what is played; None for nothing.
        tasks: number of different tasks, of which the episodes take one after the other; None if each has one of its own.
    """

    actions: Actions
    horizon: int
    places: int | None = None
    noise: int = 0
    start_noise: int = 0
    title: str
    watch: Watch | None = None
    tasks: int | None = None

    def __init__(self, actions: Actions, horizon: int, input_shape: tuple[int, ...], title: str) -> None:
        self.actions = actions
        self.horizon = horizon
        self.input_shape = input_shape
        self.title = title
        self.problem = self._problem(mean=False)

    def _problem(self, *, mean: bool) -> Control:
        best_known = type(self).best_return is not Environment.best_return
        solves = type(self).solved is not Environment.solved
        return Control(self.actions, self.title, best_known, mean, solves)

    def scored_by_mean(self) -> Self:
        """Return this family with the mean return of its episodes as score."""
        scored = copy.copy(self)
        scored.problem = self._problem(mean=True)
        return scored

    def with_tasks(self, tasks: int) -> Self:
        """Return this family with so many different tasks alone: those of the first episodes, which come back."""
        few = copy.copy(self)
        few.tasks = tasks
        return few

    @abstractmethod
    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """Draw the parameters (tasks, ...) of the tasks with these numbers."""

    @abstractmethod
    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """Return the states (tasks, ...) in which an episode begins; ``noise`` is (tasks, start_noise)."""

    @abstractmethod
    def observe(self, parameters: Params, state: Params) -> Tensor:
        """Return what a policy sees of the states, float (tasks, *input_shape)."""

    @abstractmethod
    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """Take a step in every task.

        Args:
            parameters: (tasks, ...) each.
            state: (tasks, ...) each.
            actions: (tasks,) int64, or float (tasks, count) if actions are continuous.
            noise: (tasks, noise).
        """

    def best_return(self, parameters: Params) -> Tensor:
        """Expected return (tasks,) of an episode under the best policy for each task; overridden where it is known."""
        some = next(iter(parameters.values()))
        return torch.zeros(len(some), device=some.device)

    def solved(self, parameters: Params, state: Params) -> Tensor | None:
        """Whether each task is solved in these states, (tasks,) bool; overridden where there is such a thing.

        Of the trials, the share of episodes is scored in which it was solved at some step.
        """
        return None

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """Return the best actions for tasks whose parameters are known, with so many steps left in the episode.

        Raises:
            UserError: they are not known for these environments.
        """
        raise UserError(f"algorithm/agent=told: the best actions in {self.title} are not known; take another agent")

    def place(self, observation: Tensor) -> Tensor:
        """Return the number (tasks,) in [0, places) of each observation (tasks, *input), for tables of them.

        Raises:
            UserError: observations are not counted.
        """
        raise UserError(f"algorithm/agent: needs observations that can be counted, and those of {self.title} are not")

    def drawings(self, parameters: Params, state: Params) -> list[Drawing] | None:
        """Draw the state of each task by symbols, see :mod:`metaloop.control.environments.drawings`; None without a picture."""
        return None

    def map(self, parameters: Params, state: Params) -> Map | None:
        """Return where each task's player is on a map of the plane; None if there is none."""
        return None

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError unless there are one way and one shot, which are the task's environment itself."""
        if spec.ways != 1 or spec.shots != 1:
            raise UserError(
                f"{spec.said('ways', 'shots')}: a task of control is one environment, and episode.queries says for how many "
                f"episodes it is played; take episode=trial"
            )

    def outputs(self, spec: EpisodeSpec) -> int:
        """Number of actions, or of the entries of an action."""
        return self.actions.count

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`."""
        one = self.parameters(Stream(0, "size"), torch.zeros(1, dtype=torch.int64))
        return sum(value.numel() for value in one.values()) + spec.queries * math.prod(self.input_shape)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`.

        The support set is the environment: ``support.world``, with an observation at the start of an episode (tasks, 1,
        *input). The queries are the episodes of the trial, as such observations (tasks, episodes, *input) and the best expected
        returns (tasks, episodes).
        """
        tasks = numbers if self.tasks is None else numbers % self.tasks
        parameters = self.parameters(stream, tasks)
        noise = stream.uniform(numbers, max(1, self.start_noise), "an episode's start").float().clamp(max=1 - 2.0**-24)
        start = self.reset(parameters, noise[:, : self.start_noise])
        x = self.observe(parameters, start)[:, None]
        y = self.best_return(parameters)[:, None]
        queries = Examples(x.expand(-1, spec.queries, *self.input_shape), y.expand(-1, spec.queries))
        return Tasks(Examples(x, y, world=World(self, parameters, spec.queries, tasks)), queries, numbers)

    def to(self, device: torch.device | str) -> Self:
        """Return this family: parameters are on the device of the tasks' numbers."""
        return self


def best_played(environment: Environment, parameters: Params) -> Tensor:
    """Return of an episode of the best actions (tasks,), for environments without chance."""
    state = environment.reset(parameters, _no_noise(parameters))
    total = torch.zeros_like(environment.observe(parameters, state).flatten(1)[:, 0])
    real = torch.ones_like(total, dtype=torch.bool)
    for left in range(environment.horizon, 0, -1):
        actions = environment.best_actions(parameters, state, left)
        result = environment.step(parameters, state, actions, _no_noise(parameters))
        state, total = result.state, total + result.reward * real
        real = real if result.done is None else real & ~result.done
    return total


def _no_noise(parameters: Params) -> Tensor:
    some = next(iter(parameters.values()))
    return torch.empty(len(some), 0, device=some.device)


@dataclass(frozen=True)
class World:
    """The environments of stacked tasks. A torch pytree, whose tensors are the parameters.

    Attributes:
        environment: the family.
        parameters: (tasks, ...) each.
        episodes: number of episodes of a trial.
        number: (tasks,) int64, numbers of the tasks in their split, equal for the same task; None if they are not known.
    """

    environment: Environment
    parameters: Params
    episodes: int
    number: Tensor | None = None


def watched(world: World) -> tuple[World, Watch]:
    """Return the same environments with a watch that keeps what is played in them, and the watch."""
    environment, watch = copy.copy(world.environment), Watch()
    environment.watch = watch
    return replace(world, environment=environment), watch


def _flatten(world: World) -> tuple[list[Any], tuple[Environment, tuple[str, ...], int]]:
    return [world.number, *world.parameters.values()], (world.environment, tuple(world.parameters), world.episodes)


def _unflatten(values: Any, context: tuple[Environment, tuple[str, ...], int]) -> World:
    environment, names, episodes = context
    number, *parameters = values
    return World(environment, dict(zip(names, parameters, strict=True)), episodes, number)


register_pytree_node(World, _flatten, _unflatten, serialized_type_name=f"{World.__module__}.{World.__qualname__}")


class Environments(Dataset):
    """A family of environments as a data set; each split has its own random stream.

    Args:
        environment: the family.
        score: what a task scores: the ``total`` reward of its episodes, or their ``mean``.
        tasks: number of different tasks of meta-training; None if each is new.

    Raises:
        UserError: ``score`` is neither, or ``tasks`` is below 1.
    """

    def __init__(self, environment: Environment, score: str = "total", tasks: int | None = None) -> None:
        if score not in SCORES:
            raise UserError(f"dataset.score={score!r}: one of {', '.join(SCORES)}")
        if tasks is not None and tasks < 1:
            raise UserError(f"dataset.tasks={tasks}: at least 1, or null for new tasks all the time")
        self._environment = environment if score == "total" else environment.scored_by_mean()
        self._tasks = tasks

    def split(self, name: str) -> Environment:
        """See :meth:`Dataset.split`."""
        check_split(name)
        return self._environment if name != "train" or self._tasks is None else self._environment.with_tasks(self._tasks)


def at_least(settings: Mapping[str, tuple[float, float]]) -> None:
    """Raise a UserError for the first setting ``{key: (value, least)}`` of ``dataset.environment`` that is too small."""
    for key, (value, least) in settings.items():
        if not value >= least:
            raise UserError(f"dataset.environment.{key}={value}: at least {least}")
