"""Rollouts, and what they say of environments that break their contract."""

from typing import Any

import pytest
import torch
from torch import Tensor
from trials import FAMILIES, played, tasks_of

from metaloop.control.agents.simple import Random
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.cart_pole import CartPole
from metaloop.control.environments.environment import Step
from metaloop.control.environments.grids import KeyToDoor
from metaloop.errors import UserError
from metaloop.types import Params


class Broken(KeyToDoor):
    """Breaks one law at step 3 of the second episode, in task 1."""

    def __init__(self, fault: str) -> None:
        super().__init__(size=3, horizon=6)
        self.fault = fault
        self.steps = 0

    def best_return(self, parameters: Params) -> Tensor:
        return torch.zeros(len(parameters["key"]))

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        result = super().step(parameters, state, torch.zeros_like(actions), noise)  # stays in the middle: no early end
        time, self.steps = self.steps, self.steps + 1
        if self.fault == "never ends":
            return Step(result.state, result.reward, torch.zeros_like(result.reward).bool())
        if time < 6 + 3:
            return result
        reward, new = result.reward.clone(), dict(result.state)
        if self.fault == "nan":
            reward[1] = torch.nan
        if self.fault == "shape of reward":
            reward = reward[:, None]
        if self.fault == "state grows":
            new["place"] = torch.cat([new["place"], new["place"]], 1)
        return Step(new, reward, result.done)

    def observe(self, parameters: Params, state: Params) -> Tensor:
        seen = super().observe(parameters, state)
        return seen[:, :-1] if self.fault == "observation shrinks" and self.steps == 6 + 3 else seen


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", r"the reward of task 1 \(numbered \d+\) is nan \(episode 1, step 3 of the trial\)"),
        ("shape of reward", r"step returns reward of the shape \(4, 1\).*one for each task \(episode 1, step 3"),
        ("state grows", r"changes the state from the shapes .*'place': \(4, 2\).*'place': \(4, 4\).*\(episode 1, step 3"),
        ("observation shrinks", r"observe returns the shape \(4, 5\), it must be \(4, 6\) \(episode 1, step 3"),
        ("never ends", r"4 episodes do not end, among them that of task 0 .*at most horizon=6 steps \(episode 0, step 5"),
    ],
)
def test_a_broken_environment_is_refused_with_task_and_step(fault: str, words: str) -> None:
    with pytest.raises(UserError, match=f"dataset.environment: Broken: .*{words}"):
        played(Broken(fault), Random(), 4, episodes=3)


def test_returns_are_sums_over_the_steps_of_each_episode() -> None:
    rollouts = played(FAMILIES["tabular"], Random(), 7, episodes=3)
    assert rollouts.rewards.shape == (15, 7)
    for episode in range(3):
        assert torch.allclose(rollouts.returns[:, episode], rollouts.rewards[5 * episode : 5 * episode + 5].sum(0))
    assert rollouts.done.sum(0).tolist() == [3] * 7


def test_policies_meet_the_same_noise() -> None:
    """Two policies that take the same actions earn the same, whatever random numbers of their own they use."""

    class Second(Random):
        def act(self, memory: Any, observation: Any) -> Tensor:
            memory.noise.next()
            memory.noise.next()
            return torch.zeros(len(observation), dtype=torch.int64)

    class First(Random):
        def act(self, memory: Any, observation: Any) -> Tensor:
            return torch.zeros(len(observation), dtype=torch.int64)

    environment = BernoulliBandits(arms=4)
    assert torch.equal(*(played(environment, policy, 50, episodes=9).rewards for policy in (First(), Second())))
    rewards = played(environment, First(), 2000, episodes=9).rewards
    means = tasks_of(environment, 2000).support.world.parameters["means"][:, 0]  # type: ignore[union-attr]
    assert (rewards.mean(0) - means).mean().item() == pytest.approx(0, abs=0.02)


class Lingering(Random):
    """Takes the steps after the end of all episodes."""

    def skip(self, memory: Any, steps: int) -> bool:
        return False


class Counted(CartPole):
    """Counts its steps."""

    taken = 0

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        self.taken += 1
        return super().step(parameters, state, actions, noise)


def test_steps_after_all_episodes_are_not_taken_and_change_no_number() -> None:
    environment = Counted(90, 1.0, 0.1, [0.25, 0.5], [10.0, 15.0], reversed_share=0.5)
    some = played(environment, Random(), 5, episodes=3)
    taken, environment.taken = environment.taken, 0
    every = played(environment, Lingering(), 5, episodes=3)
    assert taken < environment.taken == 3 * 90
    for name in ("rewards", "done", "real"):
        assert torch.equal(getattr(some, name), getattr(every, name))
    assert torch.equal(some.observations[some.real], every.observations[every.real])
    assert torch.equal(some.actions[some.real], every.actions[every.real])
    assert some.observations.isfinite().all()
