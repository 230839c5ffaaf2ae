"""Play Bernoulli bandits with the classical algorithms, and write table and picture of docs/control.md.

    python benchmarks/bandits.py

All algorithms play the test tasks of evaluation.seed=0, on which the kept records of RL² (docs/records/reproduction) were
tested, too. ``--kept`` takes the totals of the classical algorithms from the record of an earlier call.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.playing import IMAGES, PAGE, RECORDS, curve, fill, first_kept, parser, record_of, returns

from metaloop.control.agents.bandits import UCB1, Gittins, Greedy, Thompson
from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.policies import ControlPolicy
from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles
from metaloop.system.files import write_atomically

RECORD, PICTURE = RECORDS / "bandits.json", IMAGES / "bandits.png"
SETTINGS = ((10, 5), (10, 10), (10, 50), (100, 5), (100, 10), (100, 50))  # pulls and arms
TASKS, AT_ONCE = 10_000, 1000
AGENTS: Mapping[str, ControlPolicy] = {
    "random": Random(),
    "greedy": Greedy(0.0),
    "Thompson sampling": Thompson(optimistic=False),
    "UCB1, c = 0.2": UCB1(0.2),
    "Gittins index": Gittins(None),
    "oracle": Told(),
}
# Duan et al. 2016, table 1, from memory; they say neither c nor which index. None: not known to us.
PUBLISHED: Mapping[str, Sequence[float | None]] = {
    "random": (5.0, 5.0, None, 49.9, 49.9, None),
    "greedy": (6.6, 6.6, None, 74.8, 77.1, None),
    "Thompson sampling": (5.7, 5.5, None, 74.7, 76.7, None),
    "UCB1, c = 0.2": (6.7, 6.7, None, 78.0, 82.4, None),
    "Gittins index": (6.6, 6.6, 6.5, 78.3, 82.8, 85.2),
    "RL²": (6.7, 6.7, 6.8, 78.7, 83.5, 84.9),
}


def totals(policy: ControlPolicy, pulls: int, arms: int, tasks: int) -> dict[str, Any]:
    """Play test tasks: mean and half-width of the total reward after each pull."""
    return curve(returns(policy, BernoulliBandits(arms), pulls, tasks, AT_ONCE).cumsum(1))


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
    found = first_kept(f"duan2016_rl2_bandits_n{pulls}_k{arms}")
    points = () if found is None else found.test.curve
    return [(point.step, point.mean or 0.0, point.half_width or 0.0) for point in points] or None


def table(record: Mapping[str, Any]) -> list[str]:
    """Rows of the page's table: total reward with its interval, and the published one."""
    heads = [f"{pulls} pulls, {arms} arms | published" for pulls, arms in SETTINGS]
    lines = [f"| algorithm | {' | '.join(heads)} |", "|---" * (1 + 2 * len(SETTINGS)) + "|"]
    for name in (*AGENTS, "RL²"):
        cells = []
        for number, (pulls, arms) in enumerate(SETTINGS):
            row = record["totals"][f"n{pulls}_k{arms}"].get(name)
            points = of_rl2(pulls, arms) if row is None else [(0, row["mean"][-1], row["half_width"][-1])]
            cells.append("–" if points is None else f"{points[-1][1]:.2f} ± {points[-1][2]:.2f}")
            published = PUBLISHED[name][number] if name in PUBLISHED else None
            cells.append("–" if published is None else f"{published}")
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
    words = parser(__doc__)
    words.add_argument("--kept", action="store_true", help="take the classical algorithms from the record")
    record = record_of(RECORD, None if words.parse_args().kept else lambda: played(TASKS))
    write_atomically(PICTURE, draw(record, ((10, 5), (100, 5))))
    fill(PAGE, {"bandits": table(record)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
