"""Catch: its board, its tasks, and the best return by enumeration."""

import itertools

import pytest
import torch
from trials import played, tasks_of, world_of

from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.catch import Catch


def test_best_returns_are_those_of_all_ways_to_play() -> None:
    """On a board so wide that the paddle does not reach every column."""
    environment = Catch(rows=3, columns=7, wind=0.6)
    parameters = world_of(tasks_of(environment, 20)).parameters
    best = torch.full((7, 20), -torch.inf)
    for actions in itertools.product(range(3), repeat=2):
        for column in range(7):
            state = environment.reset(parameters, torch.full((20, 1), (column + 0.5) / 7))
            total = torch.zeros(20)
            for action in actions:
                result = environment.step(parameters, state, torch.full((20,), action), torch.empty(20, 0))
                state, total = result.state, total + result.reward
            best[column] = torch.maximum(best[column], total)
    assert torch.allclose(environment.best_return(parameters), best.mean(0))
    assert -1 < best.mean() < 1


def test_a_ball_falls_with_the_wind_onto_the_paddle() -> None:
    environment = Catch(rows=4, columns=3, wind=1.0)
    parameters = {"moves": torch.tensor([[1, 0, -1]]), "wind": torch.tensor([[1, 1, -1]])}
    state = environment.reset(parameters, torch.tensor([[0.5]]))
    assert environment.observe(parameters, state)[0, 0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    boards, rewards = [], []
    for action in (0, 1, 2):
        result = environment.step(parameters, state, torch.tensor([action]), torch.empty(1, 0))
        state = result.state
        boards.append(environment.observe(parameters, state)[0, 0].tolist())
        rewards.append(result.reward.item())
    assert boards[0] == [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1]]  # action 0 is to the right here
    assert boards[1] == [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]]  # the wall holds the ball
    assert boards[2] == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert rewards == [0, 0, 1]


def test_tasks_shuffle_the_actions_and_blow_as_often_as_asked() -> None:
    parameters = world_of(tasks_of(Catch(rows=10, columns=5, wind=0.2), 3000)).parameters
    meanings = parameters["moves"].unique(dim=0, return_counts=True)
    assert len(meanings[0]) == 6
    assert meanings[1].min() > 400
    assert (parameters["wind"] == 1).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (parameters["wind"] == -1).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_chance_catches_about_as_rarely_as_columns_are_many() -> None:
    """bsuite's board: a paddle that moves at random is in a column of five with a probability near 1/5."""
    environment = Catch(rows=10, columns=5, wind=0.0)
    assert played(environment, Random(), 2000).returns.mean().item() == pytest.approx(-0.6, abs=0.05)
    assert played(environment, Told(), 200).returns.min() == 1
