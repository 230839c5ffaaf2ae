"""Return against episodes of a policy in context, in dark rooms of held-out goals: the picture of docs/control_in_context.md.

    python benchmarks/dark_rooms.py outputs/dark_room_in_context/RUN

Plays a finished run and the algorithms beside it in the same test tasks, and writes a record of their curves, from which the
picture is drawn. Without a run, the picture is drawn anew.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from harness.playing import IMAGES, RECORDS, curve, parser, record_of
from torch import Tensor

from metaloop.control.agents.q_learning import QLearning
from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.grids import DarkRoom
from metaloop.control.policies import ControlPolicy
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.learners.control.playing import predictor
from metaloop.learners.learner import Predictor
from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec, Tasks

RECORD, PICTURE = RECORDS / "dark_rooms.json", IMAGES / "dark_rooms.png"
AGENTS: Mapping[str, ControlPolicy] = {
    "Q-learning with replay": QLearning(1.0, 0.9, 0.1, 0.0, replays=4),  # whose search was copied
    "Q-learning": QLearning(1.0, 0.9, 0.1, 0.0),
    "random": Random(),
    "oracle": Told(),
}
EPISODES, TASKS = 30, 500


def tasks_of(environment: Environment) -> Tasks:
    """The first test tasks of evaluation.seed=0."""
    return next(Episodes(environment, EpisodeSpec(1, 1, EPISODES), Stream(0, "test")).batches(0, TASKS, TASKS, "cpu"))


def returns(adapted: Predictor, tasks: Tasks) -> Tensor:
    """Returns (tasks, episodes)."""
    with torch.no_grad():
        return adapted(tasks.query.x)


def of_run(directory: Path) -> dict[str, list[float]]:
    """Play a finished run."""
    test = FinishedRun.open(directory).test()
    environment = test.episodes.distribution
    assert isinstance(environment, DarkRoom)
    tasks = tasks_of(environment)
    return curve(returns(test.learner.adapt(tasks.support), tasks))


def draw(curves: Mapping[str, Mapping[str, list[float]]]) -> bytes:
    """Mean return of each episode, with the line of 80 % of the best."""
    figure, (ax,) = new_figure(LIGHT, 1, (6.0, 3.8))
    handles = []
    for number, (name, row) in enumerate(curves.items()):
        color, dashes = curve_look(LIGHT, number)
        steps = range(1, len(row["mean"]) + 1)
        handles += ax.plot(steps, row["mean"], dashes, color=color)
        low, high = ([m + sign * h for m, h in zip(row["mean"], row["half_width"], strict=True)] for sign in (-1, 1))
        ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        if name == "oracle":
            ax.axhline(0.8 * row["mean"][0], color=color, linewidth=0.8, linestyle=":")
    titles(ax, LIGHT, "episode", "return", "dark room 9x9, held-out goals")
    legend(figure, LIGHT, handles, list(curves))
    return png(figure)


def played(run: Path) -> dict[str, Any]:
    """The record: curves of a finished run and of the algorithms beside it."""
    tasks = tasks_of(DarkRoom(9, 20, held_out=16))
    agents = {name: curve(returns(predictor(agent, tasks.support), tasks)) for name, agent in AGENTS.items()}
    return {"tasks": TASKS, "curves": {"in context": of_run(run)} | agents}


def main() -> int:
    """Play, and write record and picture."""
    words = parser(__doc__)
    words.add_argument("run", type=Path, nargs="?", help="a finished run of experiment=dark_room_in_context")
    run = words.parse_args().run
    record = record_of(RECORD, None if run is None else lambda: played(run))
    write_atomically(PICTURE, draw(record["curves"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
