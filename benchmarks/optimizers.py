"""Comparison of a learned optimizer with tuned ones on the same unseen problems: loss over inner steps.

    python benchmarks/optimizers.py                               # experiment=andrychowicz2016_quadratics: train, tune, compare
    python benchmarks/optimizers.py --run outputs/.../2026-01-01  # with a learned optimiser that was trained before
    python benchmarks/optimizers.py --run ... --change model.hidden=[40] algorithm.eval_steps=200  # other problems than it saw

The learning rates of the others (and momentum, or the decay of the mean square) are chosen on meta-validation problems by the
loss after the last step, from a grid that is refined around its best point. Meta-test problems are the same for all, so
differences are paired. Prints a table and writes benchmarks/records/<experiment>.json and .png.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor

from metaloop.config.build import build_dataset, build_learner, build_plan
from metaloop.config.composition import composer
from metaloop.config.identity import plain
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.inner.autodiff import Autodiff, detached
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.metrics.interval import mean_interval
from metaloop.metrics.paired import paired_difference
from metaloop.records.code import framework
from metaloop.records.directory import BEST
from metaloop.records.environment import hardware, versions
from metaloop.records.reading import read_identity
from metaloop.records.writing import write_json
from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles
from metaloop.system.tensors import load_checkpoint
from metaloop.types import Tasks

RECORDS = Path(__file__).parent / "records"
# Name in the plot: the rule's config, and the tuned values beside the learning rate.
OTHERS: Mapping[str, tuple[str, Mapping[str, tuple[float, ...]]]] = {
    "SGD": ("gradient_descent", {}),
    "momentum": ("momentum", {"momentum": (0.5, 0.9, 0.95)}),
    "RMSprop": ("rmsprop", {"alpha": (0.9, 0.99)}),
    "Adam": ("adam", {}),
}
COARSE = tuple(10 ** (-4 + k / 3) for k in range(17))  # 1e-4 to 22
FINE = (0.6, 0.8, 1.25, 1.6)  # times the best of the coarse grid
_ABSENT = object()
_AT_ONCE = 500_000  # most adapted numbers, over all tasks, whose optimizer states are in memory at once
_TUNING = 16  # validation problems per test problem, unless told; so many that no rate is chosen that diverges on a rare one
Config = dict[str, Any]


@dataclass(frozen=True)
class Problems:
    """The problems of a run's config.

    Attributes:
        config: config of the run.
        validation: problems for choosing rates.
        test: problems for the comparison.
    """

    config: Config
    validation: Tasks
    test: Tasks

    @classmethod
    def of(cls, config: Config, tuning: int = _TUNING) -> "Problems":
        """Draw the problems that the run itself would draw, ``tuning`` times as many for choosing rates as for the test."""
        dataset, plan = build_dataset(config), build_plan(config)

        def draw(split: str, count: int) -> Tasks:
            episodes = Episodes(dataset.split(split), plan.spec, Stream(plan.eval_seed, split))
            return episodes.tasks(torch.arange(count))

        return cls(config, draw("validation", tuning * plan.test_episodes), draw("test", plan.test_episodes))

    def learner(self, rule: Config | None = None) -> GradientLearner:
        """Build the run's learner, or the same with another rule and nothing to meta-learn."""
        changes = {"rule": rule, "meta_gradient": chosen("meta_gradient", "none")} if rule else {}
        algorithm = self.config["algorithm"] | changes
        config, plan = self.config | {"algorithm": algorithm}, build_plan(self.config)
        learner = build_learner(config, build_dataset(config).split("train"), plan.train_spec)
        assert isinstance(learner, GradientLearner)
        return learner


def losses(learner: GradientLearner, tasks: Tasks) -> Tensor:
    """(tasks, steps + 1) query losses at the start and after every inner step."""
    size = max(1, _AT_ONCE // sum(learner.model.get_parameter(name).numel() for name in learner.task.adapted))
    return torch.cat([_losses(learner, tasks[start : start + size]) for start in range(0, len(tasks), size)])


def _losses(learner: GradientLearner, tasks: Tasks) -> Tensor:
    meta, steps = detached(learner.meta_parameters()), learner.eval_steps

    def one(task: Tasks, autodiff: Autodiff) -> Tensor:
        walk = learner.problem.walk(meta, task.support, range(steps), autodiff, exact_from=steps)
        points = enumerate(at for at, _ in walk)
        return torch.stack([learner.task.query_loss(meta, at, task.support, task.query, taken)[0] for taken, at in points])

    with torch.no_grad():
        return learner.over_tasks.map(one, tasks)


def trained(experiment: str, directory: Path) -> Path:
    """Train the learned optimizer in its own process; return the run's directory."""
    command = ["-m", "metaloop", "train", f"experiment={experiment}", f"hydra.run.dir={directory}"]
    subprocess.run([sys.executable, *command], check=True)
    return directory


def chosen(choice: str, name: str) -> Config:
    """Compose the config of ``algorithm/choice=name``."""
    with composer("train", [], []) as hydra:
        return plain(hydra.compose([f"algorithm/{choice}={name}"])["algorithm"][choice])


def settings(tuned: Mapping[str, tuple[float, ...]], rates: tuple[float, ...]) -> Iterator[dict[str, float]]:
    """Iterate over the combinations of learning rates and at most one other tuned key."""
    for lr in rates:
        if not tuned:
            yield {"lr": lr}
        for key, values in tuned.items():
            yield from ({"lr": lr, key: value} for value in values)


def tune(problems: Problems, rule: str, tuned: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    """Find the setting with the smallest mean loss after the last step on the validation problems."""
    base, results = chosen("rule", rule), {}

    def final(setting: dict[str, float]) -> float:
        value = losses(problems.learner(base | setting), problems.validation)[:, -1].double().mean().item()
        return value if value == value else float("inf")  # diverged

    def look(candidates: Iterator[dict[str, float]]) -> dict[str, float]:
        results.update({json.dumps(setting): final(setting) for setting in candidates})
        return json.loads(min(results, key=results.__getitem__))

    best = look(settings(tuned, COARSE))
    return look({**best, "lr": best["lr"] * factor} for factor in FINE)


def summary(values: Tensor, learned: Tensor) -> dict[str, Any]:
    """Summarize losses: the curve with its interval, and the paired excess over the learned optimizer's loss."""

    def interval(column: Tensor) -> dict[str, float | None]:
        estimate = mean_interval(column.double().numpy())
        return {"mean": estimate.mean, "half_width": estimate.half_width}

    def excess(first: Tensor, second: Tensor) -> dict[str, float | None]:
        difference = paired_difference(*(dict(enumerate(each.double().tolist())) for each in (first, second)))
        interval = difference.interval
        return {"mean": interval.mean, "half_width": interval.half_width, "p_value": difference.p_value}

    return {
        "curve": [{"step": step, **interval(column)} for step, column in enumerate(values.unbind(1))],
        "final": interval(values[:, -1]),
        "mean_over_steps": interval(values[:, 1:].mean(1)),
        "median_final": values[:, -1].median().item(),
        "excess_final": excess(values[:, -1], learned[:, -1]),
        "excess_mean_over_steps": excess(values[:, 1:].mean(1), learned[:, 1:].mean(1)),
        "problems_where_learned_is_better": (learned[:, -1] < values[:, -1]).double().mean().item(),
    }


def draw(optimizers: Mapping[str, Any], title: str) -> bytes:
    """Draw the mean loss over inner steps with its interval, on a logarithmic axis, as a PNG."""
    figure, (ax,) = new_figure(LIGHT, 1, (5.6, 3.6))
    handles = []
    for number, one in enumerate(optimizers.values()):
        (color, dashes), curve = curve_look(LIGHT, number), one["curve"]
        steps, means, widths = (torch.tensor([point[key] for point in curve]) for key in ("step", "mean", "half_width"))
        low, high = (means - widths).clamp(min=1e-3 * means.min()), means + widths
        ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        handles += ax.plot(steps, means, dashes, color=color, linewidth=2.2 if number == 0 else 1.5)
    ax.set_yscale("log")
    titles(ax, LIGHT, "inner step", "mean loss on unseen problems", title)
    legend(figure, LIGHT, handles, list(optimizers))
    return png(figure)


def changed(config: Config, lines: Sequence[str]) -> Config:
    """Copy a config with some keys changed, which are given as ``key=value``."""
    node = OmegaConf.create(config)
    for line in lines:
        key, _, value = line.partition("=")
        if OmegaConf.select(node, key, default=_ABSENT) is _ABSENT:
            raise SystemExit(f"--change {line}: the run's config has no {key}")
        OmegaConf.update(node, key, yaml.safe_load(value), merge=False)
    return plain(node)


def compare(run: Path, changes: Sequence[str], tuning: int) -> dict[str, Any]:
    """Tune, test and summarize all optimizers; the learned one comes first."""
    problems = Problems.of(changed(read_identity(run).config, changes), tuning)
    learner = problems.learner()
    state, prefix = load_checkpoint(run / "checkpoints" / BEST)["state_dict"], "learner.rule."
    learner.rule.load_state_dict({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})
    learned = losses(learner.eval(), problems.test)
    results = {"learned": {"settings": None, **summary(learned, learned)}}
    for name, (rule, tuned) in OTHERS.items():
        best = tune(problems, rule, tuned)
        values = losses(problems.learner(chosen("rule", rule) | best), problems.test)
        results[name] = {"settings": best, **summary(values, learned)}
        print(f"{name:<10} tuned: {', '.join(f'{key} {value:.3g}' for key, value in best.items())}", flush=True)
    return results


def print_table(optimizers: Mapping[str, Any]) -> None:
    """Print one line per optimizer."""
    head = ("final loss", "median", "mean over steps", "excess over learned", "learned better")
    print(f"\n{'':<10} {head[0]:>17} {head[1]:>8} {head[2]:>17} {head[3]:>21} {head[4]:>15}")
    for name, one in optimizers.items():
        final, over, excess = (
            f"{part['mean']:.3g} ± {part['half_width']:.2g}"
            for part in (one["final"], one["mean_over_steps"], one["excess_final"])
        )
        share = "" if name == "learned" else f"{100 * one['problems_where_learned_is_better']:.0f} %"
        print(f"{name:<10} {final:>17} {one['median_final']:>8.3g} {over:>17} {excess:>21} {share:>15}")


def main() -> None:
    """Train if no run is given, compare, and write record and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="andrychowicz2016_quadratics", help="whose algorithm is learned_optimizer")
    parser.add_argument("--run", type=Path, help="directory of a finished run; default: train one")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where record and plot go")
    parser.add_argument("--change", nargs="+", default=[], metavar="KEY=VALUE", help="of the run's config, in the comparison")
    parser.add_argument(
        "--tuning", type=int, default=_TUNING, help="validation problems per test problem (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or trained(arguments.experiment, Path(folder) / "run")
        optimizers, training = compare(run, arguments.change, arguments.tuning), json.loads((run / "record.json").read_text())
    print_table(optimizers)
    name = re.sub(r"[^\w.-]+", "_", " ".join([training["name"], *arguments.change])).strip("_")
    about = {key: training[key] for key in ("command", "config", "training", "git")}
    arguments.records.mkdir(parents=True, exist_ok=True)
    whole = {
        "benchmark": "optimizers",
        "quick": False,
        "optimizers": optimizers,
        "learned": about,
        "changed": arguments.change,
        "tuning": arguments.tuning,
        "hardware": hardware(1),
        "versions": versions(),
        "git": framework(),
    }
    write_json(arguments.records / f"{name}.json", whole)
    (arguments.records / f"{name}.png").write_bytes(draw(optimizers, name))
    print(f"\nwrote {arguments.records / name}.json and .png")


if __name__ == "__main__":
    main()
