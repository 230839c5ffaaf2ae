"""Environments that take steps with random actions and begin again by themselves: ours and gymnasium's."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.control.environments.cart_pole import CartPole
from metaloop.control.environments.environment import Environment, World
from metaloop.control.environments.pendulum import Pendulum
from metaloop.control.noise import TrialNoise
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.types import EpisodeSpec, Params

FAMILIES: Mapping[str, tuple[Environment, str]] = {  # with the physics of gymnasium's, and their name there
    "cart_pole": (CartPole(500, 1.0, 0.1, 0.5, 10.0, reversed_share=0.0), "CartPole-v1"),
    "pendulum": (Pendulum(200, 10.0, 1.0, 1.0), "Pendulum-v1"),
}
DRAWN = 16  # batches of actions that are drawn beforehand, for all contestants


class Stepping(ABC):
    """Environments side by side that take steps with random actions drawn beforehand.

    Attributes:
        count: number of environments.
        clock: what measures seconds: processor time where all work is done in this process.
    """

    count: int
    clock: Callable[[], float] = staticmethod(time.process_time)

    def rate(self, seconds: float) -> float:
        """Environment steps a second, timed for at least so long."""
        begin, steps = self.clock(), 0
        while not steps or self.clock() - begin < seconds:
            for _ in range(DRAWN):
                self.step()
            steps += DRAWN * self.count
        return steps / (self.clock() - begin)

    @abstractmethod
    def step(self) -> None:
        """Take one step in each environment; those that have ended begin again."""

    @abstractmethod
    def close(self) -> None:
        """End what was started."""


class Ours(Stepping):
    """Our families: ``step``, new starts where an episode has ended, and ``observe``.

    The starts are those of :func:`metaloop.control.rollouts.play`: drawn in blocks, by task and episode.

    Args:
        name: of :data:`FAMILIES`.
        count: number of tasks.
        compiled: whether this is compiled by ``torch.compile``.
    """

    def __init__(self, name: str, count: int, compiled: bool) -> None:
        environment = FAMILIES[name][0]
        tasks = Episodes(environment, EpisodeSpec(1, 1, 1), Stream(0, "test")).tasks(torch.arange(count))
        assert isinstance(tasks.support.world, World)
        assert tasks.support.number is not None
        self.count, self.environment = count, environment
        self.parameters: Params = tasks.support.world.parameters
        self.advance = torch.compile(self._advance, dynamic=False) if compiled else self._advance
        self.noise = TrialNoise(tasks.support.number, environment.start_noise, "starts")
        self.starts = torch.empty(0, count, environment.start_noise)  # (episodes, tasks, numbers) that are drawn
        self.dropped = 0  # episodes whose starts no task needs any more
        self.episode = torch.zeros(count, dtype=torch.int64)
        self.next_start = torch.empty(environment.start_noise, count).T  # each number of all tasks side by side
        self._draw(torch.arange(count))
        self.state = environment.reset(self.parameters, self.next_start)
        self._draw(torch.arange(count))
        self.seen = environment.observe(self.parameters, self.state)
        self.no_noise, self.time = torch.empty(count, 0), 0
        self.actions = _random_actions(environment, count)

    def step(self) -> None:
        """See :meth:`Stepping.step`."""
        actions, self.time = self.actions[self.time % DRAWN], self.time + 1
        last = self.time % self.environment.horizon == 0
        self.state, self.seen, self.reward, done = self.advance(self.state, actions, self.next_start, last)
        if done is not None:
            self._draw(done.nonzero()[:, 0])
        elif last:
            self._draw(torch.arange(self.count))

    def _advance(
        self, state: Params, actions: Tensor, start: Tensor, last: bool
    ) -> tuple[Params, Tensor, Tensor, Tensor | None]:
        """States, observations and rewards after a step; ``last`` ends the episodes of a family that has no other end."""
        result = self.environment.step(self.parameters, state, actions, self.no_noise)
        new = result.state
        if result.done is not None or last:
            fresh = self.environment.reset(self.parameters, start)
            over = torch.ones_like(result.reward, dtype=torch.bool) if result.done is None else result.done
            new = {name: torch.where(over, fresh[name], value) for name, value in new.items()}
        return new, self.environment.observe(self.parameters, new), result.reward, result.done

    def close(self) -> None:
        """See :meth:`Stepping.close`."""
        torch.compiler.reset()

    def _draw(self, tasks: Tensor) -> None:
        """Draw the uniform numbers of the next start of these tasks."""
        if not len(tasks):
            return
        episode = self.episode[tasks] - self.dropped
        while int(episode.max()) >= len(self.starts):
            old = int(self.episode.min()) - self.dropped
            self.starts = torch.cat([self.starts[old:], torch.stack([self.noise.next() for _ in range(64)])])
            self.dropped, episode = self.dropped + old, episode - old
        self.episode[tasks] += 1
        self.next_start[tasks] = self.starts[episode, tasks]


class Gymnasium(Stepping):
    """Gymnasium's vector environments.

    Args:
        name: of :data:`FAMILIES`.
        count: number of environments.
        way: "sync" or "async", or "own" for the environment's own vectorized form.
    """

    def __init__(self, name: str, count: int, way: str) -> None:
        import gymnasium

        environment, title = FAMILIES[name]
        self.clock = time.perf_counter if way == "async" else time.process_time
        make = [lambda: gymnasium.make(title, disable_env_checker=True)] * count
        if way == "own":
            self.them: Any = gymnasium.make_vec(title, num_envs=count, vectorization_mode="vector_entry_point")
        else:
            self.them = (gymnasium.vector.SyncVectorEnv if way == "sync" else gymnasium.vector.AsyncVectorEnv)(make)
        self.count, self.time = count, 0
        self.them.reset(seed=0)
        scale, dtype = 2.0 if environment.actions.continuous else 1, self.them.action_space.dtype  # 2: the largest torque
        self.actions = [(scale * actions).numpy().astype(dtype) for actions in _random_actions(environment, count)]

    def step(self) -> None:
        """See :meth:`Stepping.step`; the step in which an environment begins again is counted, too."""
        self.seen: np.ndarray = self.them.step(self.actions[self.time % DRAWN])[0]
        self.time += 1

    def close(self) -> None:
        """See :meth:`Stepping.close`."""
        self.them.close()


def _random_actions(environment: Environment, count: int) -> list[Tensor]:
    generator, actions = torch.Generator().manual_seed(0), environment.actions
    if actions.continuous:
        return list(2 * torch.rand(DRAWN, count, actions.count, generator=generator) - 1)
    return list(torch.randint(0, actions.count, (DRAWN, count), generator=generator))
