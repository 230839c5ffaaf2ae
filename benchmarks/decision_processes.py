"""Play random decision processes with the classical algorithms, and write their table in docs/control.md.

    python benchmarks/decision_processes.py

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

from metaloop.control.agents.simple import Random, Told
from metaloop.control.agents.tabular import BEB, PSRL
from metaloop.control.agents.ucrl2 import UCRL2
from metaloop.control.environments.environment import World
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.metrics.interval import mean_interval
from metaloop.records.reading import read_record
from metaloop.records.writing import write_json
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "records" / "decision_processes.json"
PAGE, KEPT = ROOT / "docs" / "control.md", ROOT / "docs" / "records" / "reproduction"
EPISODES = (10, 25)
TASKS, AT_ONCE = 2000, 500
AGENTS: Mapping[str, ControlPolicy] = {
    "random": Random(),
    "greedy": BEB(0.0),
    "PSRL": PSRL(),
    "PSRL that expects rewards of 0": PSRL(0.0),
    "UCRL2": UCRL2(0.05, 1.0),
    "UCRL2, distances times 0.2": UCRL2(0.05, 0.2),
    "BEB, bonus 0.5": BEB(0.5),
    "oracle": Told(),
}
# Duan et al. 2016, table 2, from memory; they do not say with which settings.
PUBLISHED = {
    "random": (100.1, 250.2),
    "greedy": (134.8, 368.8),
    "PSRL": (138.1, 408.8),
    "UCRL2, distances times 0.2": (146.6, 424.1),
    "BEB, bonus 0.5": (150.2, 427.8),
    "RL²": (156.2, 445.7),
}


def totals(policy: ControlPolicy, count: int, tasks: int) -> dict[str, float]:
    """Play test tasks for so many episodes: mean and half-width of the total reward."""
    episodes, parts = Episodes(TabularMDPs(10, 5, 10), EpisodeSpec(1, 1, count), Stream(0, "test")), []
    for drawn in episodes.batches(0, tasks, min(AT_ONCE, tasks), "cpu"):
        assert isinstance(drawn.support.world, World)
        assert drawn.support.number is not None
        parts.append(play(drawn.support.world, drawn.support.number, policy).returns.sum(1))
    interval = mean_interval(torch.cat(parts).double().numpy())
    return {"mean": interval.mean, "half_width": interval.half_width}


def of_rl2(count: int) -> dict[str, float] | None:
    """Total of the first kept record of RL²; None if there is none."""
    found = sorted(KEPT.glob(f"duan2016_rl2_mdp_n{count}/*/record.json"))
    if not found:
        return None
    test = read_record(found[0].parent).test
    return {"mean": test.mean, "half_width": test.half_width or 0.0}


def table(record: Mapping[str, Any]) -> list[str]:
    """Rows of the page's table: total reward with its interval, and the published one."""
    heads = [f"{count} episodes | published" for count in EPISODES]
    lines = [f"| algorithm | {' | '.join(heads)} |", "|---" * (1 + 2 * len(EPISODES)) + "|"]
    for name in (*AGENTS, "RL²"):
        cells = []
        for number, count in enumerate(EPISODES):
            row = record["totals"][str(count)].get(name) if name in AGENTS else of_rl2(count)
            cells.append("–" if row is None else f"{row['mean']:.1f} ± {row['half_width']:.1f}")
            cells.append(f"{PUBLISHED[name][number]}" if name in PUBLISHED else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Play, and write record and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", action="store_true", help="take the classical algorithms from the record")
    options = parser.parse_args()
    if not options.kept:
        load = os.getloadavg()
        played = {str(count): {name: totals(agent, count, TASKS) for name, agent in AGENTS.items()} for count in EPISODES}
        write_json(RECORD, {"tasks": TASKS, "totals": played, **about(load)})
    record = json.loads(RECORD.read_text())
    write_atomically(PAGE, replaced(PAGE.read_text(), {"decision processes": table(record)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
