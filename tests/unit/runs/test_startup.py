"""What a run imports before its first outer step, and how long it says that this took."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metaloop.training.starting import start_up
from metaloop.training.starting.start_up import StartUp, process_age
from pairwise import covering

# Runs the command and prints the imported modules at the end of the first outer step, where it leaves.
FIRST_STEP = """
import json, os, sys
from metaloop.cli.main import main as cli
from metaloop.training.starting.start_up import StartUp
from metaloop.training.outer_module import OuterModule

def leave(*arguments):
    print("MODULES", json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)

OuterModule.on_train_batch_end = leave
sys.exit(cli(sys.argv[1:]))
"""
HEAVY = ("wandb", "transformers", "matplotlib.figure", "matplotlib.pyplot", "scipy.stats", "scipy.signal", "pandas", "jinja2")
HEAVY += ("torch._dynamo.eval_frame", "torch._inductor.compile_fx", "torchmetrics.functional.text", "torchmetrics.image")


def python(*words: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_default_run_takes_its_first_step_without_what_only_comes_later(tmp_path: Path) -> None:
    smaller = ("model.filters=4", "outer.meta_batch=2", "hydra.run.dir=run")
    said = python("-c", FIRST_STEP, "train", *smaller, cwd=tmp_path)
    modules = json.loads(next(line for line in said.splitlines() if line.startswith("MODULES")).removeprefix("MODULES"))
    assert "torch" in modules  # the probe works
    assert [name for name in HEAVY if name in modules] == []


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("list",), ("train", "algorithm=mamll")])
def test_help_lists_and_mistakes_need_no_torch(words: tuple[str, ...], tmp_path: Path) -> None:
    code = "import sys; from metaloop.cli.main import main; main(sys.argv[1:]); "
    code += "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert python("-c", code, *words, cwd=tmp_path).splitlines()[-1] == "[]"


@covering(["first"], ["torchmetrics.functional", "torchmetrics", "torchmetrics.classification"], select=lambda rows: rows[:1])
def test_all_of_torchmetrics_is_there_for_who_asks(first: str, tmp_path: Path) -> None:
    code = f"""
import metaloop.training.run, sys
assert "torchmetrics.aggregation" not in sys.modules
import {first}, torch, torchmetrics
from pytorch_lightning.core.module import Metric
assert torchmetrics.Metric is Metric and issubclass(torchmetrics.MeanMetric, Metric)
assert torchmetrics.functional.accuracy(torch.tensor([1, 1]), torch.tensor([1, 0]), "binary") == 0.5
mean = torchmetrics.MeanMetric()
mean.update(torch.ones(2))
print(type(mean.plot()[0]).__name__, torchmetrics.__version__)
"""
    from importlib.metadata import version

    assert python("-c", code, cwd=tmp_path).split() == ["Figure", version("torchmetrics")]


def test_all_of_the_compiler_is_there_for_who_asks(tmp_path: Path) -> None:
    code = """
import sys, torch, torch.func
import metaloop.training.run

def square(x): return (x ** 2).sum()

start = torch.nn.Parameter(torch.ones(2))
def step(loss):
    optimizer = torch.optim.SGD([start], lr=0.25)
    loss(start).backward()
    optimizer.step()
    optimizer.zero_grad()

step(square)
assert torch.func.grad(square)(torch.ones(2)).tolist() == [2.0, 2.0]
assert not isinstance(torch.nn.Linear(1, 1), torch._dynamo.OptimizedModule)
print("torch._dynamo.eval_frame" in sys.modules)  # what eager code does needs no compiler
from torch._dynamo import OptimizedModule, compiled_autograd
module = torch.compile(torch.nn.Linear(1, 1), backend="eager")
assert isinstance(module, OptimizedModule) and isinstance(module, torch._dynamo.OptimizedModule)
step(torch.compile(square, backend="eager"))  # the optimizer's light functions give way to the compiler's
assert start.tolist() == [0.25, 0.25], start
assert torch._dynamo.config is sys.modules["torch._dynamo.config"] and torch._dynamo.utils
assert torch.func.grad(square)(torch.ones(2)).tolist() == [2.0, 2.0]
with compiled_autograd._disable():
    print("torch._dynamo.eval_frame" in sys.modules, torch._dynamo.graph_break.__module__)
"""
    assert python("-c", code, cwd=tmp_path).split() == ["False", "True", "torch._dynamo.decorators"]


def test_the_first_step_is_timed_once_from_the_start_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(start_up, "process_age", lambda: 4.0)
    monkeypatch.setattr(start_up, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(StartUp, "_process_measured", False)
    nothing: Any = None

    first, second = StartUp(), StartUp()
    for seconds in (1.0, 5.0):
        clock.now += seconds
        for each in (first, second):
            each.on_train_batch_end(nothing, nothing, nothing, nothing, 0)

    assert (first.seconds, second.seconds) == (5.0, 1.0)  # a further run of the process counts from its own start


def test_a_process_knows_its_age(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began = (
        "from metaloop.training.starting.start_up import process_age; import time; print(process_age(), time.process_time())"
    )
    age, busy = map(float, python("-c", began, cwd=tmp_path).split())
    assert busy - 0.1 < age < 600
    assert process_age() > age  # this process is older: it imported as much before it started that one

    monkeypatch.setattr(start_up, "IMPORTED", 3.0)
    monkeypatch.setattr(start_up, "Path", lambda name: tmp_path / "nothing")
    monkeypatch.setattr(start_up.time, "monotonic", lambda: 10.0)
    assert process_age() == 7.0  # without /proc: since the import
