"""Drawings of environments by symbols, and what a watch keeps."""

import torch
from trials import FAMILIES, tasks_of, world_of

from metaloop.control.agents.simple import Random
from metaloop.control.environments.catch import Catch
from metaloop.control.environments.drawings import on_a_map
from metaloop.control.environments.environment import watched
from metaloop.control.environments.grids import KeyToDoor
from metaloop.control.environments.pixel_maze import PixelMaze
from metaloop.control.rollouts import play

DRAWN = ("square", "half_circle", "dark_room", "key_to_door", "catch", "pixel_maze")


def test_a_watch_keeps_what_was_played_and_changes_nothing() -> None:
    for environment in FAMILIES.values():
        tasks = tasks_of(environment, 5, episodes=2)
        number = tasks.support.number
        assert number is not None
        world, watch = watched(world_of(tasks))
        rollouts = play(world, number, Random())
        assert torch.equal(rollouts.rewards, play(world_of(tasks), number, Random()).rewards)
        assert environment.watch is None
        assert len(watch.episodes) == 2
        assert torch.equal(torch.cat([torch.stack(episode.rewards) for episode in watch.episodes]), rollouts.rewards)
        assert torch.equal(torch.cat([torch.stack(episode.actions) for episode in watch.episodes]), rollouts.actions)
        assert torch.equal(torch.cat([torch.stack(episode.real) for episode in watch.episodes]), rollouts.real)
        for episode in watch.episodes:
            assert len(episode.states) == environment.horizon + 1


def test_worlds_with_places_are_drawn_and_others_are_not() -> None:
    for name, environment in FAMILIES.items():
        parameters = world_of(tasks_of(environment, 4)).parameters
        state = environment.reset(parameters, torch.full((4, environment.start_noise), 0.5))
        drawings = environment.drawings(parameters, state)
        assert (drawings is not None) == (name in DRAWN)
        if drawings is not None:
            assert len(drawings) == 4
            assert {len(row) for drawing in drawings for row in drawing} == {len(drawings[0][0])}
            assert all(sum(row.count(symbol) for row in drawing for symbol in "@o") == 1 for drawing in drawings)


def test_a_key_disappears_when_it_is_taken() -> None:
    environment = KeyToDoor(3, 9)
    parameters = {"key": torch.tensor([[0, 1]]), "door": torch.tensor([[2, 2]])}
    state = environment.reset(parameters, torch.empty(1, 0))
    assert environment.drawings(parameters, state) == [[".k.", ".@.", "..D"]]
    state = environment.step(parameters, state, torch.tensor([1]), torch.empty(1, 0)).state  # up
    assert environment.drawings(parameters, state) == [[".@.", "...", "..D"]]
    state = environment.step(parameters, state, torch.tensor([2]), torch.empty(1, 0)).state  # down
    assert environment.drawings(parameters, state) == [["...", ".@.", "..D"]]


def test_a_missed_ball_lies_beside_the_paddle_and_a_caught_one_hides_it() -> None:
    environment = Catch(rows=2, columns=3, wind=0.0)
    parameters = {"moves": torch.tensor([[-1, 0, 1]] * 2), "wind": torch.zeros(2, 1, dtype=torch.int64)}
    state = environment.reset(parameters, torch.tensor([[0.0], [0.5]]))
    assert environment.drawings(parameters, state) == [["o..", ".=."], [".o.", ".=."]]
    state = environment.step(parameters, state, torch.tensor([1, 1]), torch.empty(2, 0)).state
    assert environment.drawings(parameters, state) == [["...", "o=."], ["...", ".o."]]


def test_a_hidden_goal_is_drawn() -> None:
    maze = PixelMaze(size=2, horizon=9, passages=1.0, step_cost=0.01, shows_goal=False)
    parameters = dict(world_of(tasks_of(maze, 1)).parameters, goal=torch.tensor([0]))
    state = maze.reset(parameters, torch.empty(1, 0))
    assert maze.drawings(parameters, state) == [["#####", "#*..#", "#.#.#", "#..@#", "#####"]]
    assert maze.observe(parameters, state)[0, 2].sum() == 0


def test_a_map_has_the_second_coordinate_upwards() -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.6]])
    rows, columns = on_a_map(corners, (-1, -1), (1, 1), 11)
    assert rows.tolist() == [10, 0, 2]
    assert columns.tolist() == [0, 10, 5]
