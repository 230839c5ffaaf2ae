"""Write the tables and the picture of 2-D navigation in docs/control_gradients.md.

    python benchmarks/navigation.py [RUN]

The tables are those of the kept records (docs/records/reproduction). With the folder of a finished run of
experiment=finn2017_maml_navigation, its policies act in the first test tasks for the picture, and their ways are recorded.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from harness.playing import GRADIENTS, IMAGES, KEPT, RECORDS, fill, parser, record_of
from harness.tables import Rows, markdown_table
from torch import Tensor

from metaloop.control.environments.environment import World
from metaloop.control.environments.navigation import PointNavigation
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.evaluation.finished_run import load_run
from metaloop.learners.control.policy_gradient.learner import PolicyGradientLearner
from metaloop.learners.control.policy_gradient.stacked import QUERIES, play_episodes
from metaloop.metrics.interval import mean_interval
from metaloop.records.reading import read_record
from metaloop.records.schema import Record
from metaloop.report.figures.theme import LIGHT, legend, new_figure, png, titles
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec

RECORD, PICTURE = RECORDS / "navigation.json", IMAGES / "navigation.png"
MAML = "finn2017_maml_navigation"
LEARNERS = {
    "MAML, TRPO": MAML,
    "ProMP": "rothfuss2019_promp_navigation",
    "joint training": "finn2017_joint_navigation",
    "from scratch": "finn2017_scratch_navigation",
}
SENSITIVITY = {5: "evaluations/five_episodes", 10: "evaluations/ten_episodes", 20: "", 40: "evaluations/forty_episodes"}
PUBLISHED = (-40.41, -11.68, -3.33, -3.23)  # Finn et al. 2017, from memory
TASKS, SHOWN, EPISODES, STEPS = 600, 4, 1, (0, 1, 3)  # test tasks, those of the picture, episodes of each, inner steps


def kept(experiment: str, part: str = "") -> Record | None:
    """The kept record of an experiment with the seed 0, or of one of its evaluations; None if there is none."""
    folder = KEPT / experiment / "seed0" / part
    return read_record(folder) if (folder / "record.json").is_file() else None


def curve(record: Record) -> list[str]:
    """Return after 0, 1, 2, ... inner steps, each with its interval."""
    return [record.test.metric.interval(point.mean, point.half_width) for point in record.test.curve]


def learners(record: Mapping[str, Any]) -> list[str]:
    """Rows of the table of learners."""
    rows: Rows = [["learner", "before", "1 step", "2 steps", "3 steps", "outer steps", "CPU time of training"]]
    for name, experiment in LEARNERS.items():
        found = kept(experiment)
        if found is not None:
            training = found.training
            assert training is not None
            spent = [str(training.steps), f"{training.cpu_seconds / 60:.1f} min"] if training.steps > 1 else ["–", "–"]
            rows.append([name, *curve(found), *spent])
    rows.append(["published (M)", *(f"{value:.2f}".replace("-", "−") for value in PUBLISHED), "–", "–"])
    oracle = record["oracle"]
    rows.append(["oracle", f"−{-oracle['mean']:.2f} ± {oracle['half_width']:.2f}", *["–"] * 5])
    return markdown_table(rows).split("\n")


def sensitivity() -> list[str]:
    """Rows of the table of inner episodes."""
    rows: Rows = [["episodes of a step", "1 step", "2 steps", "3 steps"]]
    found = {count: kept(MAML, part) for count, part in SENSITIVITY.items()}
    rows += [[str(count), *curve(record)[1:]] for count, record in found.items() if record is not None]
    return markdown_table(rows).split("\n")


def oracle() -> dict[str, float | None]:
    """Return of the best policy for each of the test tasks: straight to the goal."""
    episodes = Episodes(PointNavigation(100, "square", 0.2), EpisodeSpec(1, 1, 1), Stream(0, "test"))
    interval = mean_interval(episodes.tasks(torch.arange(TASKS)).query.y[:, 0].double().numpy())
    return {"mean": interval.mean, "half_width": interval.half_width}


def ways(run: Path) -> list[dict[str, Any]]:
    """Goals of the first test tasks, and the places of a few episodes after some inner steps, in each up to its end."""
    test = load_run(run).test()
    learner = test.learner
    assert isinstance(learner, PolicyGradientLearner)
    support = test.data.episodes("test").tasks(torch.arange(SHOWN)).support
    world, numbers = support.world, support.number
    assert isinstance(world, World)
    assert numbers is not None
    policies = learner.policies(support)
    shown: list[dict[str, Any]] = [{"goal": rounded(goal), "ways": {}} for goal in world.parameters["goal"]]
    for step in STEPS:
        rollouts = play_episodes(world, numbers, policies[step], QUERIES, EPISODES)
        for number in range(SHOWN * EPISODES):
            places = rollouts.observations[rollouts.real[:, number], number]
            shown[number // EPISODES]["ways"].setdefault(str(step), []).append(rounded(places))
    return shown


def rounded(values: Tensor) -> Any:
    """Numbers with three decimals."""
    return json.loads(json.dumps(values.double().tolist()), parse_float=lambda text: round(float(text), 3))


def draw(record: Mapping[str, Any]) -> bytes:
    """The ways on the map of each task."""
    figure, axes = new_figure(LIGHT, SHOWN, (11.0, 3.0))
    looks = {"0": (LIGHT.muted, 0.9), "1": (LIGHT.palette[4], 1.4), "3": (LIGHT.palette[0], 1.4)}
    handles: dict[str, Any] = {}
    for number, (ax, task) in enumerate(zip(axes, record["tasks"], strict=True)):
        for step, (color, width) in looks.items():
            for way in task["ways"][step]:
                label = {"0": "before adaptation", "1": "after 1 step"}.get(step, f"after {step} steps")
                (handles[label],) = ax.plot(*zip(*way, strict=True), color=color, linewidth=width, alpha=0.8)
        (handles["start"],) = ax.plot(0, 0, "o", color=LIGHT.text, markersize=5, linestyle="none")
        (handles["goal"],) = ax.plot(*task["goal"], "*", color=LIGHT.bad, markersize=13, linestyle="none", zorder=5)
        ax.set(xlim=(-0.65, 0.65), ylim=(-0.65, 0.65), aspect="equal")
        titles(ax, LIGHT, "", "", f"task {number}")
    legend(figure, LIGHT, list(handles.values()), list(handles))
    return png(figure)


def main() -> int:
    """Play where a run is given, and write record, page and picture."""
    words = parser(__doc__)
    words.add_argument("run", type=Path, nargs="?", help="folder of a finished run")
    run = words.parse_args().run
    record = record_of(RECORD, None if run is None else lambda: {"oracle": oracle(), "tasks": ways(run)})
    write_atomically(PICTURE, draw(record))
    fill(GRADIENTS, {"navigation": learners(record), "inner episodes": sensitivity()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
