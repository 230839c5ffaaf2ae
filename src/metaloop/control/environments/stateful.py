"""The adapter of gymnasium's environments, which are objects with a state of their own, to families of environments."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment, Step
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import EpisodeSpec, Params

_BITS = 24  # that a uniform number of a start has


@dataclass
class _Slot:
    """An environment object, and how often it was reset and how many steps it has taken since."""

    environment: Any
    values: Mapping[str, float]
    begun: int = 0
    time: int = 0


class StatefulEnvironment(Environment):
    """A family whose environments are objects of gymnasium, one for each task of a batch.

    The objects stand in numbered places that are used again by the next batch. The state of a task is the number of its place,
    how often the object there was reset, how many steps it took since, what it showed last, and whether its episode has ended.
    An object cannot go back: a step from a state that is not its latest is refused, so that a wrong trial is impossible. Each
    episode is seeded by the numbers of its start, so trials are functions of the tasks' numbers as everywhere. Objects are on
    the CPU and take their steps one after another.

    An action in [-1, 1] is stretched to the bounds of a continuous action where there are bounds. Discrete observations are
    one-hot, those of several parts are one vector.

    Args:
        title: name of the family in words.
        values: parameters of a task with which an environment can be made, to read its spaces.

    Raises:
        UserError: gymnasium is not installed, an environment cannot be made, or its spaces are of other kinds.
    """

    start_noise = 2
    success: ClassVar[str | None] = None  # the part of a step's info that says whether the task is solved

    def __init__(self, title: str, values: Mapping[str, float]) -> None:
        first = self.make(values)
        self.action_space, self.observation_space = first.action_space, first.observation_space
        shape = self._shape()
        horizon = getattr(first.spec, "max_episode_steps", None)
        if horizon is None:
            raise UserError(f"dataset.environment.horizon=null: episodes of {title} have no limit of their own; give a number")
        super().__init__(self._actions(title), int(horizon), shape, title)
        self._slots = [_Slot(first, values)]

    @abstractmethod
    def make(self, values: Mapping[str, float]) -> Any:
        """Make the environment of a task; ``spec.max_episode_steps`` is the most steps of an episode."""

    def changed(self, environment: Any, values: Mapping[str, float]) -> Any:
        """Return the environment of another task: a new one, or where that is possible the given one, changed."""
        environment.close()
        return self.make(values)

    def seed(self, values: Mapping[str, float], drawn: int) -> int:
        """Return the seed of an episode, from the one that was drawn for it."""
        return drawn

    def reward(self, reward: float, action: Any, info: Mapping[str, Any], values: Mapping[str, float]) -> float:
        """Return the reward of a step, from the environment's own, the action and what ``step`` said besides."""
        return reward

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`; so many that one batch is drawn at a time, since each task is an object."""
        return 2**40

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        names, columns = list(parameters), [value.tolist() for value in parameters.values()]
        words = (noise * 2**_BITS).long().tolist()
        shown, begun = [], []
        for row, (low, high) in enumerate(words):
            slot = self._slot(row, dict(zip(names, (column[row] for column in columns), strict=True)))
            slot.begun, slot.time = slot.begun + 1, 0
            shown.append(slot.environment.reset(seed=self.seed(slot.values, (high << _BITS) + low))[0])
            begun.append(slot.begun)
        place = torch.arange(len(words), device=noise.device)
        return {
            "place": place,
            "begun": torch.tensor(begun, device=noise.device),
            "time": torch.zeros_like(place),
            "shown": torch.stack([self._observation(seen, row, 0) for row, seen in enumerate(shown)]).to(noise.device),
            "ended": torch.zeros_like(place, dtype=torch.bool),
            "solved": torch.zeros_like(place, dtype=torch.bool),
        }

    def _slot(self, row: int, values: Mapping[str, float]) -> _Slot:
        if row == len(self._slots):
            self._slots.append(_Slot(self.make(values), values))
        slot = self._slots[row]
        if slot.values != values:
            slot.environment, slot.values = self.changed(slot.environment, values), values
        return slot

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`."""
        return state["shown"]

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`.

        Raises:
            UserError: ``state`` is not the latest of its tasks, or an observation has another shape than those of its space.
        """
        device, chosen = actions.device, self._native(actions)
        shown, rewards, ended, solved = list(state["shown"].cpu()), [], state["ended"].tolist(), state["solved"].tolist()
        place, begun, time = (state[name].tolist() for name in ("place", "begun", "time"))
        for row, over in enumerate(ended):
            if over:
                rewards.append(0.0)
                continue
            slot = self._slots[place[row]]
            if (slot.begun, slot.time) != (begun[row], time[row]):
                raise UserError(
                    f"dataset.environment: {self.title} cannot go back: a step must follow the one before it, without another "
                    f"trial between; this algorithm needs a family whose steps are functions, such as dataset=cart_pole"
                )
            seen, own, terminated, truncated, info = slot.environment.step(chosen[row])
            slot.time += 1
            shown[row] = self._observation(seen, row, slot.time)
            rewards.append(self.reward(float(own), chosen[row], info, slot.values))
            ended[row] = bool(terminated or truncated)
            solved[row] = self.success is not None and bool(info[self.success])
        over = torch.tensor(ended, device=device)
        new = {"time": state["time"] + (~state["ended"]), "shown": torch.stack(shown).to(device), "ended": over}
        new["solved"] = torch.tensor(solved, device=device)
        return Step({**state, **new}, torch.tensor(rewards, device=device), over)

    def _observation(self, seen: Any, row: int, time: int) -> Tensor:
        """What an environment shows, as float32; the task in this row shows it after so many steps of an episode."""
        if self.observation_space.shape is None or not hasattr(self.observation_space, "low"):
            from gymnasium.spaces.utils import flatten

            seen = flatten(self.observation_space, seen)
        values = np.asarray(seen, np.float32)
        if values.shape != tuple(self.observation_space.shape or self.input_shape):
            raise UserError(
                f"dataset.environment: {self.title}: an observation of task {row} has the shape {values.shape}, it must be "
                f"{self.input_shape} (step {time} of an episode)"
            )
        return torch.from_numpy(values.copy().reshape(self.input_shape))

    def _native(self, actions: Tensor) -> list[Any]:
        """The actions as the environments take them."""
        space = self.action_space
        if not self.actions.continuous:
            return [int(action) + int(space.start) for action in actions.tolist()]
        free = ~(np.isfinite(space.low) & np.isfinite(space.high))
        low, high = np.where(free, -1, space.low), np.where(free, 1, space.high)
        given = actions.cpu().numpy().reshape(len(actions), *space.shape)
        inside = low + (np.clip(given, -1, 1) + 1) / 2 * (high - low)
        return list(np.where(free, given, inside).astype(space.dtype))

    def _shape(self) -> tuple[int, ...]:
        from gymnasium.spaces import Box
        from gymnasium.spaces.utils import flatdim

        if isinstance(self.observation_space, Box):
            return tuple(self.observation_space.shape) or (1,)
        try:
            return (flatdim(self.observation_space),)
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"dataset.environment: observations {self.observation_space} are of no fixed length; where they have parts, "
                f"dataset.environment.part names the one that is shown"
            ) from error

    def _actions(self, title: str) -> Actions:
        from gymnasium.spaces import Box, Discrete

        if isinstance(self.action_space, Discrete):
            return Actions(int(self.action_space.n))
        if isinstance(self.action_space, Box):
            return Actions(int(np.prod(self.action_space.shape)), continuous=True)
        raise UserError(f"dataset.environment: actions of {title} are {self.action_space}; allowed are Discrete and Box")


def observing(environment: Any, part: str, name: str) -> Any:
    """Let an environment show one part of what it shows.

    Raises:
        UserError: it has no such part.
    """
    from gymnasium.spaces import Dict
    from gymnasium.wrappers import TransformObservation

    parts = environment.observation_space
    if not isinstance(parts, Dict) or part not in parts.spaces:
        has = ", ".join(parts.spaces) if isinstance(parts, Dict) else f"none: they are {parts}"
        raise UserError(f"dataset.environment.part={part}: parts of the observations of {name} are {has}")
    return TransformObservation(environment, lambda seen: seen[part], parts[part])


def limited(environment: Any, name: str, horizon: int) -> Any:
    """Give an environment, which is not registered with gymnasium, a name and a limit of steps."""
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.wrappers import TimeLimit

    environment.spec = EnvSpec(name)
    return TimeLimit(environment, horizon)


def gymnasium_environment(name: str, horizon: int | None, arguments: Mapping[str, Any], extra: str) -> Any:
    """Make an environment that is registered with gymnasium.

    Args:
        name: its name, such as "CartPole-v1". A name with a module is refused, because the module would be imported.
        horizon: most steps of an episode; None for the environment's own limit.
        arguments: of its constructor.
        extra: extra of metaloop that has what it needs.

    Raises:
        UserError: gymnasium or what the environment needs is missing, or it cannot be made so.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise UserError(
            f"dataset.environment: gymnasium cannot be imported ({error}): pip install 'metaloop[{extra}]'"
        ) from error
    if ":" in name:
        raise UserError(
            f"dataset.environment.id={name}: only a name that is registered, without a module; for an environment of your own, "
            f"override make of {StatefulEnvironment.__module__}.{StatefulEnvironment.__qualname__} (docs/control.md)"
        )
    try:
        return gymnasium.make(name, max_episode_steps=horizon, disable_env_checker=True, **arguments)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError(
            f"dataset.environment: {name} needs more than is installed ({error}): pip install 'metaloop[{extra}]'"
        ) from error
    except (gymnasium.error.Error, TypeError) as error:
        raise UserError(f"dataset.environment.id={name}: gymnasium cannot make it with {dict(arguments)}: {error}") from error
