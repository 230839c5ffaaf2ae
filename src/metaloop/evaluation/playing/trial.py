"""One numbered task of the meta-test of a run of control, played again by its learner and kept step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from metaloop.control.environments.environment import World, watched
from metaloop.control.showing import ShownEpisode, shown
from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.problems.control import Control, returns_of

_FEW = 12  # numbers of a parameter that are shown


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
    episodes: list[ShownEpisode]
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
        episodes=[shown(world.environment, episode, row) for episode in watch.episodes for row in range(len(episode.real[0]))],
        returns=returns_of(returns)[0].tolist(),
        scores=scores,
    )
