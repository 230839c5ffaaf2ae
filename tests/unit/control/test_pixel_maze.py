"""Mazes: every goal can be reached, paths are shortest, and pictures show what is there."""

import networkx
import pytest
import torch
from trials import played, tasks_of, world_of

from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.mazes import SIDES, distances, edges, mazes
from metaloop.control.environments.pixel_maze import PixelMaze
from metaloop.models.convolutional.conv4 import Conv4

MAZE = PixelMaze(size=4, horizon=20, passages=0.1, step_cost=0.01, shows_goal=True)


def graph_of(opened: torch.Tensor, size: int) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    for side, cell in opened.nonzero().tolist():
        row, column = cell // size + SIDES[side][0], cell % size + SIDES[side][1]
        assert 0 <= row < size  # the outer wall is closed
        assert 0 <= column < size
        graph.add_edge(cell, row * size + column)
    return graph


@pytest.mark.parametrize("size", [2, 5])
def test_a_maze_without_passages_is_a_spanning_tree_of_least_weight(size: int) -> None:
    first, second = edges(size, torch.device("cpu"))
    weights = torch.rand(8, len(first))
    opened = mazes(weights, size, torch.zeros(8, len(first), dtype=torch.bool))
    for weight, each in zip(weights, opened, strict=True):
        graph = networkx.Graph()
        graph.add_weighted_edges_from(zip(first.tolist(), second.tolist(), weight.tolist(), strict=True))
        expected = {tuple(sorted(edge)) for edge in networkx.minimum_spanning_edges(graph, data=False)}
        found = graph_of(each, size)
        assert {tuple(sorted(edge)) for edge in found.edges} == expected
        assert all((b, a) in found.edges for a, b in found.edges)


def test_distances_are_those_of_shortest_paths_and_all_cells_are_reached() -> None:
    parameters = world_of(tasks_of(MAZE, 30)).parameters
    for opened, goal, length in zip(parameters["open"], parameters["goal"], parameters["distance"], strict=True):
        expected = networkx.shortest_path_length(graph_of(opened, 4), target=int(goal))
        assert {cell: int(value) for cell, value in enumerate(length)} == expected
    assert bool((parameters["goal"] != MAZE.middle).all())
    assert len(parameters["goal"].unique()) == 15
    assert torch.equal(distances(parameters["open"], parameters["goal"], 4), parameters["distance"])


def test_the_best_return_is_that_of_a_shortest_path_or_of_none() -> None:
    short = PixelMaze(size=4, horizon=4, passages=0.0, step_cost=0.02, shows_goal=False)
    tasks = tasks_of(short, 60)
    length = world_of(tasks).parameters["distance"][:, short.middle]
    assert bool((length > 4).any())
    expected = torch.where(length <= 4, 1 - 0.02 * length, -0.08)
    assert torch.allclose(tasks.query.y[:, 0], expected)
    assert torch.allclose(played(short, Told(), 60).returns[:, 0], expected)
    assert bool((played(short, Random(), 60).returns[:, 0] <= expected + 1e-6).all())


def test_a_picture_has_the_walls_between_cells_the_player_and_the_goal() -> None:
    parameters = world_of(tasks_of(MAZE, 12)).parameters
    state = MAZE.reset(parameters, torch.empty(12, 0))
    picture = MAZE.observe(parameters, state)
    assert picture.shape == (12, 3, 9, 9)
    assert bool((picture[:, 1, 5, 5] == 1).all())
    for task in range(12):
        goal = int(parameters["goal"][task])
        assert picture[task, 2].nonzero().tolist() == [[2 * (goal // 4) + 1, 2 * (goal % 4) + 1]]
        for side, (down, right) in enumerate(SIDES):
            for cell in range(16):
                wall = picture[task, 0, 2 * (cell // 4) + 1 + down, 2 * (cell % 4) + 1 + right]
                assert bool(wall) != bool(parameters["open"][task, side, cell])
    hidden = PixelMaze(size=4, horizon=20, passages=0.1, step_cost=0.01, shows_goal=False)
    assert hidden.observe(parameters, state)[:, 2].sum() == 0
    assert torch.equal(hidden.observe(parameters, state)[:, :2], picture[:, :2])


def test_walls_stop_the_player() -> None:
    parameters = world_of(tasks_of(MAZE, 12)).parameters
    state = MAZE.reset(parameters, torch.empty(12, 0))
    for side, (down, right) in enumerate(SIDES):
        after = MAZE.step(parameters, state, torch.full((12,), side), torch.empty(12, 0)).state["place"]
        free = parameters["open"][:, side, MAZE.middle]
        assert torch.equal(after, torch.where(free, MAZE.middle + 4 * down + right, MAZE.middle))


def test_convolutional_networks_read_the_pictures() -> None:
    network = Conv4(MAZE.input_shape, None, 8, "stride", "layer", False, 4, None)
    assert network(tasks_of(MAZE, 5).support.x[:, 0]).shape == (5, 8)  # type: ignore[index]
