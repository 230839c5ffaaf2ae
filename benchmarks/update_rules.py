"""Compare the meta-learned objective of LPG with policy gradients, and write the tables in docs/control_gradients.md.

    python benchmarks/update_rules.py [RUN] [--disco WEIGHTS]

With the folder of a finished run of experiment=oh2020_lpg_tabular_mdps, its objective teaches agents in families of
environments that it was not trained on, too. Policy gradients teach the same agents, with as many episodes between two updates;
their rate, and whether advantages are standardized, are chosen on tasks of meta-validation in each family. With --disco, an
agent learns to catch by Disco103. What is not played is taken from the record of an earlier call.
"""

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from harness.machine import about
from harness.tables import Rows, markdown_table
from knowledge import replaced

from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.catch import Catch
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.grids import DarkRoom
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.evaluation.finished_run import load_run
from metaloop.learners.control.policy_gradient.baselines import LinearFeatures
from metaloop.learners.control.policy_gradient.played import AdvantageEstimator
from metaloop.learners.control.update_rules.agents import LinearAgent
from metaloop.learners.control.update_rules.disco.learner import Disco103
from metaloop.learners.control.update_rules.lifetimes import predictor_of
from metaloop.learners.control.update_rules.lpg import LPG
from metaloop.learners.control.update_rules.streams import Streams
from metaloop.metrics.interval import mean_interval
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.records.writing import write_json
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec, Params, Tasks

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "records" / "update_rules.json"
PAGE = ROOT / "docs" / "control_gradients.md"
FAMILIES: Mapping[str, Environment] = {
    "as in meta-training: 5 states, 3 actions": TabularMDPs(5, 3, 10),
    "10 states, 5 actions": TabularMDPs(10, 5, 10),
    "5 Bernoulli arms": BernoulliBandits(5),
    "dark room 4x4": DarkRoom(4, 10, 0),
}
RATES, TASKS, EPISODES = (1.0, 4.0, 16.0), 64, 10
Row = dict[str, list[float]]


def policy_gradient(learner: LPG, environment: Environment, rate: float, standardize: bool) -> Any:
    """An update of the learner's agents by the policy gradient of what they just played, with a linear baseline."""
    estimator = AdvantageEstimator(LinearFeatures(), learner.discount, 1.0, standardize)

    def update(params: Params, streams: Streams) -> Params:
        steps = environment.horizon
        tasks, shape = len(streams.actions), streams.actions.shape
        cut = streams.observations[:, :, :-1].reshape(tasks, -1, steps, *environment.input_shape)
        rewards, real = (value.reshape(tasks, -1, steps) for value in (streams.rewards, streams.real))
        advantages = estimator.advantages(cut, rewards, real).reshape(shape)
        with torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            logits = learner.agent.outputs(leaves, environment, streams.observations[:, :, :-1].flatten(1, 2))[0]
            chosen = logits.log_softmax(-1).view(*shape, -1).gather(-1, streams.actions[..., None])[..., 0]
            slopes = torch.autograd.grad(streams.mean(chosen * advantages).sum(), list(leaves.values()))
        return {name: params[name] + rate * slope for name, slope in zip(leaves, slopes, strict=True)}

    return update


def tasks_of(environment: Environment, split: str, count: int) -> Tasks:
    """The first tasks of a split."""
    return Episodes(environment, EpisodeSpec(1, 1, EPISODES), Stream(0, split)).tasks(torch.arange(count))


def curve(returns: torch.Tensor) -> Row:
    """Mean return and its half-width after some updates, from returns (points, tasks, episodes)."""
    intervals = [mean_interval(point.mean(1).double().numpy()) for point in returns]
    return {"mean": [i.mean for i in intervals], "half_width": [i.half_width or 0.0 for i in intervals]}


def played(learner: LPG, environment: Environment, tasks: Tasks, rate: float, standardize: bool) -> torch.Tensor:
    """Returns (points, tasks, episodes) of agents that learn by policy gradients."""
    lifetimes = learner.lifetimes(tasks.support)
    start = learner.agent.start(environment, lifetimes.numbers)
    update = policy_gradient(learner, environment, rate, standardize)
    predictor = predictor_of(lifetimes, start, update, learner.eval_updates, lambda params: params)
    return predictor.curve(tasks.query.x)


def for_actions(trained: LPG, environment: Environment) -> LPG:
    """The trained objective with agents for other environments."""
    learner, actions = copy.copy(trained), environment.actions
    learner.actions = actions
    learner.agent = LinearAgent(trained.agent.embedding, actions.count, trained.agent.predictions)
    return learner


def compared(trained: LPG, environment: Environment, tasks: int = TASKS) -> dict[str, Any]:
    """Curves of both rules on test tasks of a family, and how the settings of policy gradients were chosen."""
    learner = for_actions(trained, environment)
    validation, test = (tasks_of(environment, split, tasks) for split in ("validation", "test"))
    tried = {
        f"rate {rate:g}{', standardized' if standardize else ''}": float(
            played(learner, environment, validation, rate, standardize)[-1].mean()
        )
        for rate, standardize in product(RATES, (False, True))
    }
    best = max(product(RATES, (False, True)), key=lambda s: tried[f"rate {s[0]:g}{', standardized' if s[1] else ''}"])
    predictor = learner.adapt(test.support)
    return {
        "updates": list(predictor.curve_steps),
        "LPG": curve(predictor.curve(test.query.x)),
        "policy gradient": curve(played(learner, environment, test, *best)),
        "best": float(test.query.y.mean()),
        "chosen": list(best),
        "validation": tried,
    }


def table(record: Mapping[str, Any]) -> list[str]:
    """Rows of the table of LPG: return before, after half of the updates and after all."""
    rows: Rows = [["environments", "rule", "before", "20 updates", "40 updates", "best possible"]]
    for family, found in record["families"].items():
        for rule in ("LPG", "policy gradient"):
            row = found[rule]
            places = [found["updates"].index(update) for update in (0, 20, 40)]
            cells = [f"{row['mean'][place]:.2f} ± {row['half_width'][place]:.2f}" for place in places]
            rows.append([family, rule, *cells, f"{found['best']:.2f}"])
    return markdown_table(rows).split("\n")


def lived(weights: str, tasks: int) -> dict[str, Any]:
    """Let Disco103 teach agents in the first test tasks of catch, with the settings of experiment=oh2025_disco103_catch."""
    catch = Catch(10, 5, 0.2)
    learner = Disco103(
        MLP(catch.input_shape, None, [256]), Regret(), catch.actions, weights=weights, tabular=False, units=128, hidden=128,
        rate=0.01, updates=800, streams=16, episodes=3,
    )  # fmt: skip
    begun = time.process_time()
    test = Episodes(catch, EpisodeSpec(1, 1, 20), Stream(0, "test")).tasks(torch.arange(tasks))
    predictor = learner.adapt(test.support)
    means = predictor.curve(test.query.x).mean((1, 2)).tolist()
    seconds = time.process_time() - begun
    return {"tasks": tasks, "updates": list(predictor.curve_steps), "mean": means, "cpu_seconds": seconds}


def of_disco(record: Mapping[str, Any]) -> list[str]:
    """Rows of the table of Disco103: return after so many updates."""
    found = record["disco103"]
    rows: Rows = [["updates", *map(str, found["updates"])]]
    rows.append(["return of an episode", *(f"{mean:.2f}".replace("-", "−") for mean in found["mean"])])
    return markdown_table(rows).split("\n")


def main() -> int:
    """Play where a run is given, and write record and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a finished run of experiment=oh2020_lpg_tabular_mdps")
    parser.add_argument("--disco", type=Path, help="the weights of Disco103, with which an agent learns catch")
    options = parser.parse_args()
    kept = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if options.disco is not None:
        write_json(RECORD, kept | {"disco103": lived(str(options.disco), 1)})
    if options.run is not None:
        load, trained = os.getloadavg(), load_run(options.run).test().learner
        assert isinstance(trained, LPG)
        families = {name: compared(trained, environment) for name, environment in FAMILIES.items()}
        write_json(RECORD, kept | {"tasks": TASKS, "episodes": EPISODES, "families": families, **about(load)})
    record = json.loads(RECORD.read_text())
    write_atomically(PAGE, replaced(PAGE.read_text(), {"lpg": table(record), "disco103": of_disco(record)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
