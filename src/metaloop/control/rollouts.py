"""Rollouts: policies play trials of several episodes in all tasks of a batch at once."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment, Step, World
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.errors import UserError
from metaloop.types import Params


@dataclass(frozen=True)
class Rollouts:
    """Trials of stacked tasks. The steps of all episodes follow each other; every episode has ``horizon`` places.

    Attributes:
        observations: (steps, tasks, *input), before each step.
        actions: (steps, tasks) int64, or float (steps, tasks, count).
        rewards: (steps, tasks); 0 after the end of an episode.
        after: (steps, tasks, *input), after each step, before the next episode begins.
        done: (steps, tasks) bool, whether the episode had ended after the step.
        real: (steps, tasks) bool, False for places after the end of an episode.
        memory: the policy's memory at the end.
        episodes: number of episodes.
        best: the best actions of each step, as ``actions``; None if they were not asked for.
        solved: (tasks, episodes) bool, whether the task was solved at some step; None if the environments do not say.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    after: Tensor
    done: Tensor
    real: Tensor
    memory: Any
    episodes: int
    best: Tensor | None = None
    solved: Tensor | None = None

    @property
    def outcomes(self) -> Tensor:
        """What is scored of each episode: its return (tasks, episodes), or (tasks, episodes, 2) with whether it was solved."""
        return self.returns if self.solved is None else torch.stack([self.returns, self.solved.to(self.rewards)], -1)

    @property
    def returns(self) -> Tensor:
        """Sum of the rewards of each episode, (tasks, episodes)."""
        steps, tasks = self.rewards.shape
        return self.rewards.view(self.episodes, steps // self.episodes, tasks).sum(1).T

    def each(self, number: int) -> "Rollouts":
        """The trials with each ``number``-th of their episodes, beginning with the first."""
        if number == 1:
            return self

        def thinned(x: Tensor) -> Tensor:
            return x.view(self.episodes, -1, *x.shape[1:])[::number].flatten(0, 1)

        parts = {name: thinned(getattr(self, name)) for name in ("observations", "actions", "rewards", "after", "done", "real")}
        best = None if self.best is None else thinned(self.best)
        solved = None if self.solved is None else self.solved[:, ::number]
        return Rollouts(**parts, memory=self.memory, episodes=len(range(0, self.episodes, number)), best=best, solved=solved)


def play(world: World, numbers: Tensor, policy: ControlPolicy, best: bool = False) -> Rollouts:
    """Let a policy play a trial in every task.

    Everything random is a function of the task's number and the step, so that rollouts do not depend on the tasks beside, on
    ranks or on what was played before. A task whose episode ends early waits until those of all tasks have ended; meanwhile
    its rewards are 0 and its actions have no meaning. When all have ended, the steps that are left are not taken if the policy
    can do without them; observations and actions are then those of the last step.

    Args:
        world: the environments.
        numbers: (tasks,) int64, ``Examples.number`` of the tasks.
        policy: the policy.
        best: whether to note the best actions of each step, too, for environments in which they are known.

    Raises:
        UserError: a reward is not finite, a shape changes, or an episode does not end; the message names task and step.
    """
    environment, parameters, episodes = world.environment, world.parameters, world.episodes
    trial = TrialStart(environment, numbers, episodes, parameters if policy.told else None)
    checks = _Checks(environment, numbers)
    step_noise = TrialNoise(numbers, environment.noise, "steps")
    start_noise = TrialNoise(numbers, environment.start_noise, "starts")
    memory, steps, labels, solved = policy.start(trial), [], [], []
    for episode in range(episodes):
        state = environment.reset(parameters, start_noise.next())
        if environment.watch is not None:
            environment.watch.begin(parameters, state)
            environment.watch.believe(policy.belief(memory))
        observation = checks.observation(environment.observe(parameters, state), episode, 0)
        real = torch.ones(len(numbers), dtype=torch.bool, device=numbers.device)
        won = environment.solved(parameters, state)
        for time in range(environment.horizon):
            if best:
                labels.append(environment.best_actions(parameters, state, environment.horizon - time))
            view = (state, environment.horizon - time) if policy.told else observation
            actions = policy.act(memory, view)
            result = checks.step(environment.step(parameters, state, actions, step_noise.next()), state, episode, time)
            state, last = result.state, time + 1 == environment.horizon
            done = ~real | (torch.full_like(real, last) if result.done is None else result.done)
            now = environment.solved(parameters, state)
            won = won if won is None or now is None else won | (now & real)
            after = checks.observation(environment.observe(parameters, state), episode, time + 1)
            reward = torch.where(real, result.reward, torch.zeros_like(result.reward))
            transition = Transition(observation, actions, reward, after, done, real)
            memory = policy.learn(memory, transition)
            if environment.watch is not None:
                environment.watch.step(actions, reward, real, state)
                environment.watch.believe(policy.belief(memory))
            steps.append(transition)
            observation, real = after, ~done
            left = environment.horizon - time - 1
            if left and result.done is not None and _over(environment, real, best) and policy.skip(memory, left):
                step_noise.skip(left)
                steps += [replace(transition, observation=after, reward=torch.zeros_like(reward), done=done, real=real)] * left
                break
        if result.done is not None:
            checks.ended(real, episode)
        solved += [] if won is None else [won]
    return checks.finite(_stacked(steps, labels, memory, episodes, solved))


def _over(environment: Environment, real: Tensor, best: bool) -> bool:
    """Whether all episodes have ended and nobody asks what the steps after that are."""
    return environment.watch is None and not best and not bool(real.any())


def _stacked(steps: list[Transition], labels: list[Tensor], memory: Any, episodes: int, solved: list[Tensor]) -> Rollouts:
    return Rollouts(
        observations=torch.stack([step.observation for step in steps]),
        actions=torch.stack([step.actions for step in steps]),
        rewards=torch.stack([step.reward for step in steps]),
        after=torch.stack([step.after for step in steps]),
        done=torch.stack([step.done for step in steps]),
        real=torch.stack([step.real for step in steps]),
        memory=memory,
        episodes=episodes,
        best=torch.stack(labels) if labels else None,
        solved=torch.stack(solved, 1) if solved else None,
    )


class _Checks:
    """What an environment must keep to, checked where it acts."""

    def __init__(self, environment: Environment, numbers: Tensor) -> None:
        self.name = type(environment).__qualname__
        self.tasks = len(numbers)
        self.numbers = numbers
        self.shape = (self.tasks, *environment.input_shape)
        self.horizon = environment.horizon

    def observation(self, observation: Tensor, episode: int, time: int) -> Tensor:
        if tuple(observation.shape) != self.shape:
            self._refuse(f"observe returns the shape {tuple(observation.shape)}, it must be {self.shape}", episode, time)
        return observation

    def step(self, result: Step, before: Params, episode: int, time: int) -> Step:
        shapes = {name: tuple(value.shape) for name, value in before.items()}
        now = {name: tuple(value.shape) for name, value in result.state.items()}
        if now != shapes:
            self._refuse(f"step changes the state from the shapes {shapes} to {now}", episode, time)
        for name, value in (("reward", result.reward), ("done", result.done)):
            if value is not None and tuple(value.shape) != (self.tasks,):
                self._refuse(
                    f"step returns {name} of the shape {tuple(value.shape)}, it must be ({self.tasks},), one for each task",
                    episode,
                    time,
                )
        return result

    def ended(self, real: Tensor, episode: int) -> None:
        if bool(real.any()):
            task = int(real.nonzero()[0])
            self._refuse(
                f"{int(real.sum())} episodes do not end, among them that of task {task} (numbered {int(self.numbers[task])}): "
                f"step must say done after at most horizon={self.horizon} steps",
                episode,
                self.horizon - 1,
            )

    def finite(self, rollouts: Rollouts) -> Rollouts:
        broken = ~rollouts.rewards.isfinite()
        if bool(broken.any()):
            place, task = broken.nonzero()[0].tolist()
            self._refuse(
                f"the reward of task {task} (numbered {int(self.numbers[task])}) is {float(rollouts.rewards[place, task])}",
                *divmod(place, self.horizon),
            )
        return rollouts

    def _refuse(self, fault: str, episode: int, time: int) -> None:
        raise UserError(f"dataset.environment: {self.name}: {fault} (episode {episode}, step {time} of the trial)")
