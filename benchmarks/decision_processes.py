"""Play random decision processes with the classical algorithms, and write their table in docs/control.md.

    python benchmarks/decision_processes.py

All algorithms play the test tasks of evaluation.seed=0, on which the kept records of RL² (docs/records/reproduction) were
tested, too. ``--kept`` takes the totals of the classical algorithms from the record of an earlier call.
"""

import sys
from collections.abc import Mapping
from typing import Any

from harness.playing import PAGE, RECORDS, fill, first_kept, parser, record_of, returns

from metaloop.control.agents.simple import Random, Told
from metaloop.control.agents.tabular import BEB, PSRL
from metaloop.control.agents.ucrl2 import UCRL2
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.policies import ControlPolicy
from metaloop.metrics.interval import mean_interval

RECORD = RECORDS / "decision_processes.json"
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
TRAINED = {"RL²": "duan2016_rl2_mdp", "RL² that begins by imitating BEB": "imitating_rl2_mdp"}
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
    total = returns(policy, TabularMDPs(10, 5, 10), count, tasks, AT_ONCE).sum(1)
    interval = mean_interval(total.double().numpy())
    return {"mean": interval.mean, "half_width": interval.half_width}


def trained(experiment: str, count: int) -> dict[str, float] | None:
    """Total of the first kept record of an experiment with so many episodes; None if there is none."""
    found = first_kept(f"{experiment}_n{count}")
    return None if found is None else {"mean": found.test.mean, "half_width": found.test.half_width or 0.0}


def table(record: Mapping[str, Any]) -> list[str]:
    """Rows of the page's table: total reward with its interval, and the published one."""
    heads = [f"{count} episodes | published" for count in EPISODES]
    lines = [f"| algorithm | {' | '.join(heads)} |", "|---" * (1 + 2 * len(EPISODES)) + "|"]
    for name in (*AGENTS, *TRAINED):
        cells = []
        for number, count in enumerate(EPISODES):
            row = record["totals"][str(count)].get(name) if name in AGENTS else trained(TRAINED[name], count)
            cells.append("–" if row is None else f"{row['mean']:.1f} ± {row['half_width']:.1f}")
            cells.append(f"{PUBLISHED[name][number]}" if name in PUBLISHED else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def played() -> dict[str, Any]:
    """The record: totals by number of episodes and agent."""
    totals_of = {str(count): {name: totals(agent, count, TASKS) for name, agent in AGENTS.items()} for count in EPISODES}
    return {"tasks": TASKS, "totals": totals_of}


def main() -> int:
    """Play, and write record and table."""
    words = parser(__doc__)
    words.add_argument("--kept", action="store_true", help="take the classical algorithms from the record")
    record = record_of(RECORD, None if words.parse_args().kept else played)
    fill(PAGE, {"decision processes": table(record)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
