"""trajectories.json of a run directory: what a learner did in a few test tasks, before and after it adapted."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.typed_json import decode, read_object
from metaloop.system.files import write_atomically

TRAJECTORIES = "trajectories.json"
_DIGITS = 4  # after the point, of places, rewards and beliefs
Place = tuple[float, float]


@dataclass(frozen=True)
class KeptEpisode:
    """An episode.

    Attributes:
        name: when it was played, such as "before adaptation" or "episode 3".
        rewards: of each step until its end.
        places: of the player on the map, before each step and after the last; empty without a map.
        drawings: rows of symbols of each state, before each step and after the last; empty if there are none.
    """

    name: str
    rewards: tuple[float, ...]
    places: tuple[Place, ...] = ()
    drawings: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class KeptBelief:
    """What a policy believed about its task in the course of a trial: means and deviations of some entries of its posterior.

    Attributes:
        steps: numbers of steps of the trial after which it is given.
        entries: numbers of the entries, the first of which is 1.
        means: a row for each of the steps, with a number for each of the entries.
        deviations: likewise.
        ends: numbers of steps after which an episode ended.
    """

    steps: tuple[int, ...]
    entries: tuple[int, ...]
    means: tuple[tuple[float, ...], ...]
    deviations: tuple[tuple[float, ...], ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class KeptTask:
    """A task.

    Attributes:
        number: its number in the meta-test.
        episodes: in their order, the same ones for all tasks.
        marks: places on the map, by name, such as the goal.
        belief: what the policy believed; None for a policy without a posterior.
    """

    number: int
    episodes: tuple[KeptEpisode, ...]
    marks: Mapping[str, Place]
    belief: KeptBelief | None = None


@dataclass(frozen=True)
class Trajectories:
    """Episodes of a few tasks.

    Attributes:
        title: the environments in words.
        tasks: at least one.
        corners: lower left and upper right corner of the map; None without one.
    """

    title: str
    tasks: tuple[KeptTask, ...]
    corners: tuple[Place, Place] | None = None


def write_trajectories(directory: Path, trajectories: Trajectories) -> None:
    """Write trajectories.json, with rounded numbers and without blanks."""
    text = json.dumps(_rounded(asdict(trajectories)), separators=(",", ":"))
    write_atomically(directory / TRAJECTORIES, text + "\n")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value


def read_trajectories(directory: Path) -> Trajectories | None:
    """Read trajectories.json; None if the run has none.

    Raises:
        UserError: the file is broken.
    """
    path = directory / TRAJECTORIES
    if not path.exists():
        return None
    trajectories = decode(Trajectories, read_object(path, "trajectories"), str(path))
    fault = _fault(trajectories)
    if fault:
        raise UserError(f"{path}: {fault}; delete it, or evaluate the run again")
    return trajectories


def _fault(trajectories: Trajectories) -> str:
    """What keeps the trajectories from being drawn; empty if nothing does."""
    names = {tuple(episode.name for episode in task.episodes) for task in trajectories.tasks}
    if len(names) != 1 or not next(iter(names)):
        return "no tasks with the same episodes"
    episodes = [episode for task in trajectories.tasks for episode in task.episodes]
    numbers = [x for episode in episodes for x in (*episode.rewards, *(c for place in episode.places for c in place))]
    beliefs = [task.belief for task in trajectories.tasks if task.belief]
    numbers += [x for belief in beliefs for part in (belief.means, belief.deviations) for row in part for x in row]
    numbers += [x for place in trajectories.corners or () for x in place]
    if not all(map(math.isfinite, numbers)):
        return "a number is not finite"
    if trajectories.corners and not all(low < high for low, high in zip(*trajectories.corners, strict=True)):
        return "the map has no area"
    sizes = {(len(rows), *map(len, rows)) for episode in episodes for rows in episode.drawings}
    if len(sizes) > 1 or any(len({*widths}) != 1 or not widths[0] for _, *widths in sizes):
        return "drawings are empty or differ in size"
    if any(len(part) not in (0, len(each.rewards) + 1) for each in episodes for part in (each.places, each.drawings)):
        return "an episode does not have a state for each step"
    kinds = {(bool(each.places), bool(each.drawings)) for each in episodes}
    if len(kinds) > 1 or any(placed != (trajectories.corners is not None) for placed, _ in kinds):
        return "some episodes have a map or drawings, and others have none"
    shapes = [(len(b.steps), len(b.entries)) for b in beliefs]
    tables = [(part, shape) for b, shape in zip(beliefs, shapes, strict=True) for part in (b.means, b.deviations)]
    equal = all(len(part) == steps and all(len(row) == entries for row in part) for part, (steps, entries) in tables)
    return (
        ""
        if equal and all(map(all, shapes)) and len({b.entries for b in beliefs}) < 2
        else "beliefs are empty or differ in size"
    )
