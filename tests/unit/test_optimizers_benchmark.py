"""benchmarks/optimizers.py: what it tunes and compares, on a learned optimiser that is hardly trained."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from metaloop.cli.main import main
from metaloop.inner.rules.rule import GradientDescent
from small_runs import QUIET

SMALL = (
    "experiment=andrychowicz2016_quadratics",
    "algorithm.steps=4",
    "algorithm.meta_gradient.length=2",
    "outer.meta_batch=2",
    "trainer.max_steps=2",
    "validation.every=2",
    "validation.episodes=8",
    "evaluation.episodes=9",
)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "optimizers.py"
    spec = importlib.util.spec_from_file_location("optimizers_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "COARSE", (0.003, 0.01, 30.0))  # the last diverges
    monkeypatch.setattr(module, "FINE", (0.8,))
    monkeypatch.setattr(module, "_AT_ONCE", 40)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("learned") / "run"
    assert main(["train", *SMALL, *QUIET, f"hydra.run.dir={directory}"]) == 0
    return directory


def test_all_optimisers_meet_the_same_problems_and_the_best_setting_is_taken(
    benchmark: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["optimizers.py", "--run", str(run), "--records", str(tmp_path)])
    benchmark.main()
    found = json.loads((tmp_path / "andrychowicz2016_quadratics.json").read_text())["optimizers"]
    assert list(found) == ["learned", "SGD", "momentum", "RMSprop", "Adam"]
    starts = {one["curve"][0]["mean"] for one in found.values()}
    assert len(starts) == 1
    record = json.loads((run / "record.json").read_text())
    assert found["learned"]["final"]["mean"] == pytest.approx(record["test"]["mean"], rel=1e-5)
    assert (tmp_path / "andrychowicz2016_quadratics.png").stat().st_size > 5000

    problems = benchmark.Problems.of(record["config"])
    for name in ("SGD", "momentum"):
        rule, tuned = benchmark.OTHERS[name]
        base, chosen = benchmark.chosen("rule", rule), found[name]["settings"]
        assert set(chosen) == {"lr", *tuned}

        def final(setting: dict[str, float], base: dict[str, object] = base) -> float:
            return benchmark.losses(problems.learner(base | setting), problems.validation)[:, -1].double().mean().item()

        tried = [final(setting) for setting in benchmark.settings(tuned, benchmark.COARSE)]
        assert final(chosen) <= min(value for value in tried if value == value)
        excess = found[name]["final"]["mean"] - found["learned"]["final"]["mean"]
        assert found[name]["excess_final"]["mean"] == pytest.approx(excess, rel=1e-5)


def test_losses_are_those_of_the_steps_written_out(benchmark: ModuleType, run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    problems = benchmark.Problems.of(record["config"])
    learner = problems.learner(benchmark.chosen("rule", "gradient_descent") | {"lr": 0.01})
    assert isinstance(learner.rule, GradientDescent)
    found = benchmark.losses(learner, problems.test)
    assert found.shape == (9, 5)
    x, y = problems.test.support.x, problems.test.support.y
    meta, supports = learner.meta_parameters(), [problems.test.map(lambda t, n=n: t[n]).support for n in range(9)]
    point = torch.cat([learner.task.start(meta, support)["head.weight"] for support in supports])
    for step in range(5):
        error = (x @ point[..., None] - y)[..., 0]
        torch.testing.assert_close(found[:, step], (error**2).mean(1), rtol=1e-4, atol=1e-4)
        point = point - 0.01 * 2 / 10 * (x * error[..., None]).sum(1)


def test_other_problems_than_in_training(benchmark: ModuleType) -> None:
    config = {"model": {"hidden": [20]}, "algorithm": {"eval_steps": None}}
    lines = ["model.hidden=[40, 40]", "algorithm.eval_steps=200"]
    assert benchmark.changed(config, lines) == {"model": {"hidden": [40, 40]}, "algorithm": {"eval_steps": 200}}
    with pytest.raises(SystemExit, match=r"has no model\.width"):
        benchmark.changed(config, ["model.width=3"])
