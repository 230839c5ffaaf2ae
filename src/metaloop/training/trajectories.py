"""What a learner does in the first test tasks, before and after it adapts, kept for the report's pictures."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from metaloop.control.environments.environment import World, watched
from metaloop.control.showing import ShownEpisode, shown
from metaloop.control.watching import Watch
from metaloop.data.episodes import Episodes
from metaloop.learners.learner import Learner, Predictor
from metaloop.records.trajectories import KeptBelief, KeptEpisode, KeptTask, Trajectories, write_trajectories
from metaloop.types import Inputs

_TASKS = 4
_LONGEST = 1000  # most steps of an episode that are kept
_POINTS, _ENTRIES = 200, 5  # most points of a belief, and entries of it: those that move most


def save_trajectories(directory: Path, learner: Learner, episodes: Episodes, device: torch.device) -> bool:
    """Write trajectories.json of the first tasks; return False if they are no environments, or there is nothing to draw.

    A learner that remembers plays its trials again, of which the first, an early and the last episode are kept. One that takes
    inner steps plays the first of the scored episodes before adaptation, after the first step and after the last.
    """
    tasks = episodes.tasks(torch.arange(_TASKS, device=device))
    if not isinstance(tasks.support.world, World):
        return False
    world, watch = watched(tasks.support.world)
    predictor, remembers = learner.adapt(replace(tasks.support, world=world)), learner.curve_over == "episode"
    if world.environment.horizon == 1 and not remembers:
        return False
    played = (_episodes if remembers else _iterates)(predictor, watch, tasks.query.x)
    by_task = [
        [(name, shown(world.environment, watch.episodes[place], row)) for name, place in played] for row in range(_TASKS)
    ]
    beliefs = _beliefs(watch) if remembers else [None] * _TASKS
    if world.environment.horizon == 1 and beliefs[0] is None:
        return False
    kept = [_task(number, each, belief) for number, (each, belief) in enumerate(zip(by_task, beliefs, strict=True))]
    first = by_task[0][0][1].map
    corners = None if first is None else (first.low, first.high)
    write_trajectories(directory, Trajectories(world.environment.title, tuple(kept), corners))
    return True


def _episodes(predictor: Predictor, watch: Watch, x: Inputs) -> list[tuple[str, int]]:
    """Play the trials; return the names of the chosen episodes and their places in the watch."""
    predictor(x)
    count = len(watch.episodes)
    return [(f"episode {number}", number - 1) for number in sorted({1, round(math.sqrt(count)), count})]


def _iterates(predictor: Predictor, watch: Watch, x: Inputs) -> list[tuple[str, int]]:
    """Play an episode of some iterates; return their names and the places of the episodes in the watch."""
    assert isinstance(x, Tensor)
    steps, played = predictor.curve_steps, []
    for point in sorted({0, min(1, len(steps) - 1), len(steps) - 1}):
        played.append((_after(steps[point]), len(watch.episodes)))
        predictor.iterates[point](x[:, :1], None)
    return played


def _after(steps: int) -> str:
    return f"after {steps} step{'s' if steps > 1 else ''}" if steps else "before adaptation"


def _task(number: int, played: list[tuple[str, ShownEpisode]], belief: KeptBelief | None) -> KeptTask:
    kept = tuple(
        KeptEpisode(
            name,
            tuple(each.rewards[:_LONGEST]),
            () if each.map is None else tuple(each.map.places[: _LONGEST + 1]),
            tuple(map(tuple, each.drawings[: _LONGEST + 1])) if each.map is None else (),
        )
        for name, each in played
    )
    first = played[0][1].map
    return KeptTask(number, kept, {} if first is None else dict(first.marks), belief)


def _beliefs(watch: Watch) -> Sequence[KeptBelief | None]:
    """What the policy believed about each task in the course of its trial, thinned; None for a policy without a posterior."""
    if not watch.episodes[0].beliefs:
        return [None] * _TASKS
    real = torch.cat([torch.stack(episode.real) for episode in watch.episodes]).cpu()  # (steps, tasks)
    mean, deviation = (
        torch.stack([getattr(each, part) for episode in watch.episodes for each in episode.beliefs[1:]]).cpu()
        for part in ("mean", "deviation")
    )
    moves = (mean.amax(0) - mean.amin(0)).mean(0)
    entries = moves.argsort(descending=True, stable=True)[:_ENTRIES].sort().values
    last = torch.cat([_lasts(torch.stack(episode.real).cpu()) for episode in watch.episodes])
    result = []
    for task in range(_TASKS):
        rows = real[:, task].nonzero()[:, 0]
        ends = last[rows, task].nonzero()[:, 0] + 1
        every = -(-len(rows) // _POINTS)
        steps = torch.arange(len(rows))[(len(rows) - 1) % every :: every]
        tables = [part[rows[steps], task][:, entries].tolist() for part in (mean, deviation)]
        means, deviations = (tuple(map(tuple, table)) for table in tables)
        numbers = tuple((steps + 1).tolist()), tuple((entries + 1).tolist())
        result.append(KeptBelief(*numbers, means, deviations, tuple(ends.tolist())))
    return result


def _lasts(real: Tensor) -> Tensor:
    """Whether each step (steps, tasks) of an episode is its last."""
    return real & ~torch.cat([real[1:], torch.zeros_like(real[:1])])
