"""One numbered task of the meta-test of a run of control, played again by its learner and kept step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from metaloop.control.environments.drawings import Drawing
from metaloop.control.environments.environment import World, watched
from metaloop.control.watching import WatchedEpisode
from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.problems.control import Control

_FEW = 12  # numbers of a parameter that are shown


@dataclass(frozen=True)
class PlayedEpisode:
    """An episode of one task.

    Attributes:
        rewards: of each step until its end.
        actions: of each step; a number, or several.
        drawings: of the states before each step and after the last; empty if the environments are not drawn.
        beliefs: means and standard deviations (entries each) of what the policy believed of the task before each step and after
            the last; empty if it has no posterior.
    """

    rewards: list[float]
    actions: list[Any]
    drawings: list[Drawing]
    beliefs: list[tuple[list[float], list[float]]]


@dataclass(frozen=True)
class PlayedTrial:
    """A trial of one task.

    Attributes:
        task: number of the task in the meta-test.
        problem: what is asked.
        horizon: most steps of an episode.
        parameters: the task's parameters of few numbers, by name.
        episodes: all episodes that the learner played, in their order; one that adapts by copies of the task plays more than
            are scored.
        returns: (episodes,) of the episodes that are scored.
        scores: of the trial, as in the run's table of episodes.
    """

    task: int
    problem: Control
    horizon: int
    parameters: Mapping[str, list[float]]
    episodes: list[PlayedEpisode]
    returns: list[float]
    scores: Mapping[str, float]


def play_task(run: FinishedRun, task: int) -> PlayedTrial:
    """Play a task of a run's meta-test as the meta-test did.

    Args:
        run: the run.
        task: number of the task.

    Raises:
        UserError: the run is not of control, or the task is no number of a task.
    """
    test = run.test()
    problem = test.episodes.distribution.problem
    if not isinstance(problem, Control):
        raise UserError(
            f"play: tasks of this run are of {problem.name}, and nothing is played; metaloop inspect {run.directory} shows "
            f"what adaptation does, and metaloop predict run={run.directory} predicts your own files"
        )
    tasks = test.episodes.tasks(torch.tensor([task], device=test.device))
    assert isinstance(tasks.support.world, World)
    world, watch = watched(tasks.support.world)
    returns = test.learner.adapt(replace(tasks.support, world=world))(tasks.query.x, tasks.query.mask)
    scores = {name: float(value[0]) for name, value in problem.scores(returns, tasks.query).items()}
    parameters = {name: value[0] for name, value in world.parameters.items() if value[0].numel() <= _FEW}
    return PlayedTrial(
        task=task,
        problem=problem,
        horizon=world.environment.horizon,
        parameters={name: value.flatten().double().tolist() for name, value in parameters.items()},
        episodes=[each for episode in watch.episodes for each in _of_each_task(world, episode)],
        returns=returns[0].tolist(),
        scores=scores,
    )


def _of_each_task(world: World, episode: WatchedEpisode) -> list[PlayedEpisode]:
    """The episodes of stacked tasks, which are copies of one if the learner plays several at once."""
    real, rewards, actions = (torch.stack(values) for values in (episode.real, episode.rewards, episode.actions))
    frames = _frames(world, episode)
    result = []
    for place, length in enumerate(real.sum(0).tolist()):
        shown = [frame[place] for frame in frames[: length + 1]]
        beliefs = [(each.mean[place].tolist(), each.deviation[place].tolist()) for each in episode.beliefs[: length + 1]]
        result.append(PlayedEpisode(rewards[:length, place].tolist(), actions[:length, place].tolist(), shown, beliefs))
    return result


def _frames(world: World, episode: WatchedEpisode) -> list[list[Drawing]]:
    """The drawings of all tasks, state by state; empty if there are none."""
    frames = [world.environment.drawings(episode.parameters, state) for state in episode.states]
    return [frame for frame in frames if frame is not None]
