"""Play Bernoulli bandits with the classical algorithms, and write table and picture of docs/control.md.

    python benchmarks/bandits.py

All algorithms play the test tasks of evaluation.seed=0, on which the kept records of RL² (docs/records/reproduction) were
tested, too. ``--kept`` takes the totals of the classical algorithms from the record of an earlier call.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from harness.machine import about
from knowledge import replaced

from metaloop.control.agents.bandits import UCB1, Gittins, Greedy, Thompson
from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.environment import World
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.metrics.interval import mean_interval
from metaloop.records.reading import read_record
from metaloop.records.writing import write_json
from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "records" / "bandits.json"
PAGE, PICTURE = ROOT / "docs" / "control.md", ROOT / "docs" / "images" / "bandits.png"
KEPT = ROOT / "docs" / "records" / "reproduction"
SETTINGS = ((10, 5), (10, 10), (100, 5), (100, 10))  # pulls and arms
TASKS, AT_ONCE = 10_000, 1000
AGENTS: Mapping[str, ControlPolicy] = {
    "random": Random(),
    "greedy": Greedy(0.0),
    "Thompson sampling": Thompson(optimistic=False),
    "UCB1, c = 0.2": UCB1(0.2),
    "Gittins index": Gittins(None),
    "oracle": Told(),
}
# Duan et al. 2016, table 1, from memory; they say neither c nor which index.
PUBLISHED = {
    "random": (5.0, 5.0, 49.9, 49.9),
    "greedy": (6.6, 6.6, 74.8, 77.1),
    "Thompson sampling": (5.7, 5.5, 74.7, 76.7),
    "UCB1, c = 0.2": (6.7, 6.7, 78.0, 82.4),
    "Gittins index": (6.6, 6.6, 78.3, 82.8),
    "RL²": (6.7, 6.7, 78.7, 83.5),
}


def totals(policy: ControlPolicy, pulls: int, arms: int, tasks: int) -> dict[str, Any]:
    """Play test tasks: mean and half-width of the total reward after each pull."""
    episodes, parts = Episodes(BernoulliBandits(arms), EpisodeSpec(1, 1, pulls), Stream(0, "test")), []
    for drawn in episodes.batches(0, tasks, min(AT_ONCE, tasks), "cpu"):
        assert isinstance(drawn.support.world, World)
        assert drawn.support.number is not None
        parts.append(play(drawn.support.world, drawn.support.number, policy).returns.cumsum(1))
    intervals = [mean_interval(column.double().numpy()) for column in torch.cat(parts).unbind(1)]
    return {"mean": [each.mean for each in intervals], "half_width": [each.half_width for each in intervals]}


def played(tasks: int) -> dict[str, Any]:
    """The record: totals by setting and agent."""
    return {
        "tasks": tasks,
        "totals": {
            f"n{pulls}_k{arms}": {name: totals(agent, pulls, arms, tasks) for name, agent in AGENTS.items()}
            for pulls, arms in SETTINGS
        },
    }


def of_rl2(pulls: int, arms: int) -> list[tuple[int, float, float]] | None:
    """The curve of the first kept record of RL²: pulls, mean and half-width; None if there is none."""
    found = sorted(KEPT.glob(f"duan2016_rl2_bandits_n{pulls}_k{arms}/*/record.json"))
    if not found:
        return None
    return [(point.step, point.mean or 0.0, point.half_width or 0.0) for point in read_record(found[0].parent).test.curve]


def table(record: Mapping[str, Any]) -> list[str]:
    """Rows of the page's table: total reward with its interval, and the published one."""
    heads = [f"{pulls} pulls, {arms} arms | published" for pulls, arms in SETTINGS]
    lines = [f"| algorithm | {' | '.join(heads)} |", "|---" * (1 + 2 * len(SETTINGS)) + "|"]
    for name in (*AGENTS, "RL²"):
        cells = []
        for number, (pulls, arms) in enumerate(SETTINGS):
            row = record["totals"][f"n{pulls}_k{arms}"].get(name)
            curve = of_rl2(pulls, arms) if row is None else [(0, row["mean"][-1], row["half_width"][-1])]
            cells.append("–" if curve is None else f"{curve[-1][1]:.2f} ± {curve[-1][2]:.2f}")
            cells.append(f"{PUBLISHED[name][number]}" if name in PUBLISHED else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def draw(record: Mapping[str, Any], settings: tuple[tuple[int, int], ...]) -> bytes:
    """Mean reward of a pull so far against pulls, for each setting."""
    figure, axes = new_figure(LIGHT, len(settings), (9.0, 3.6))
    handles = {}
    for ax, (pulls, arms) in zip(axes, settings, strict=True):
        curves = {
            name: [(pull + 1, mean, half) for pull, (mean, half) in enumerate(zip(row["mean"], row["half_width"], strict=True))]
            for name, row in record["totals"][f"n{pulls}_k{arms}"].items()
        }
        rl2 = of_rl2(pulls, arms)
        curves |= {} if rl2 is None else {"RL²": rl2}
        for number, name in enumerate((*AGENTS, "RL²")):
            if name in curves:
                steps, means, _ = zip(*curves[name], strict=True)
                color, dashes = curve_look(LIGHT, number)
                (handles[name],) = ax.plot(steps, [m / s for m, s in zip(means, steps, strict=True)], dashes, color=color)
                low, high = ([(m + sign * h) / s for s, m, h in curves[name]] for sign in (-1, 1))
                ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        titles(ax, LIGHT, "pulls", "mean reward of a pull so far", f"{arms} arms, {pulls} pulls")
    legend(figure, LIGHT, list(handles.values()), list(handles))
    return png(figure)


def main() -> int:
    """Play, and write record, page and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", action="store_true", help="take the classical algorithms from the record")
    options = parser.parse_args()
    if not options.kept:
        load = os.getloadavg()
        write_json(RECORD, {**played(TASKS), **about(load)})
    record = json.loads(RECORD.read_text())
    write_atomically(PICTURE, draw(record, ((10, 5), (100, 5))))
    write_atomically(PAGE, replaced(PAGE.read_text(), {"bandits": table(record)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
