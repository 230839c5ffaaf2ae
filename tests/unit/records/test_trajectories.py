"""trajectories.json: written, read, and refused if it is broken."""

from dataclasses import replace
from pathlib import Path

import pytest

from metaloop.errors import UserError
from metaloop.records.trajectories import (
    TRAJECTORIES,
    KeptBelief,
    KeptEpisode,
    KeptTask,
    Trajectories,
    read_trajectories,
    write_trajectories,
)

BELIEF = KeptBelief((1, 2), (3,), ((0.0,), (1.0,)), ((1.0,), (0.5,)), (2,))
EPISODE = KeptEpisode("episode 1", (0.5, -1.25), ((0.0, 0.0), (0.1, 0.0), (0.1, 0.2)), (("@.",), (".@",), (".@",)))
TASK = KeptTask(0, (EPISODE,), {"goal": (0.5, 0.5)}, BELIEF)
GOOD = Trajectories("points", (TASK,), ((-1.0, -1.0), (1.0, 1.0)))


def with_task(**changes: object) -> Trajectories:
    return replace(GOOD, tasks=(replace(TASK, **changes),))  # type: ignore[arg-type]


def with_episode(**changes: object) -> Trajectories:
    return with_task(episodes=(replace(EPISODE, **changes),))  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_trajectories(tmp_path) is None
    write_trajectories(tmp_path, GOOD)
    assert read_trajectories(tmp_path) == GOOD
    write_trajectories(tmp_path, with_episode(rewards=(1 / 3, 2.0)))
    read = read_trajectories(tmp_path)
    assert read is not None
    assert read.tasks[0].episodes[0].rewards == (0.3333, 2.0)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (replace(GOOD, tasks=()), "no tasks"),
        (replace(GOOD, tasks=(TASK, with_episode(name="episode 2").tasks[0])), "same episodes"),
        (with_episode(rewards=(0.5, float("nan"))), "not finite"),
        (replace(GOOD, corners=((0.0, 0.0), (0.0, 1.0))), "no area"),
        (with_episode(drawings=(("@.",), (".@",), ("...",))), "differ in size"),
        (with_episode(drawings=((), (), ())), "differ in size"),
        (with_episode(places=((0.0, 0.0),)), "a state for each step"),
        (replace(GOOD, corners=None), "others have none"),
        (with_task(belief=replace(BELIEF, means=((0.0,), (1.0, 2.0)))), "beliefs are empty or differ"),
        (with_task(belief=replace(BELIEF, deviations=((1.0,),))), "beliefs are empty or differ"),
    ],
)
def test_what_cannot_be_drawn_is_refused(broken: Trajectories, message: str, tmp_path: Path) -> None:
    write_trajectories(tmp_path, broken)
    with pytest.raises(UserError, match=f"{TRAJECTORIES}.*{message}"):
        read_trajectories(tmp_path)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / TRAJECTORIES).write_text('{"title": 3}')
    with pytest.raises(UserError, match=TRAJECTORIES):
        read_trajectories(tmp_path)
