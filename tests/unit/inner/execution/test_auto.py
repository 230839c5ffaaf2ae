"""Choosing how to run tasks by timing."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution import auto
from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import Loop, OverTasks, TaskLoss, Vmap
from metaloop.inner.execution.workers import Workers
from metaloop.types import Examples, Params, Tasks


def made_tasks(tasks: int = 4) -> Tasks:
    def examples() -> Examples:
        return Examples(torch.randn(tasks, 6, 4), torch.randint(0, 2, (tasks, 6)), None, 2)

    return Tasks(examples(), examples(), torch.arange(tasks))


def one_step(net: nn.Module) -> tuple[TaskLoss, Params]:
    """A one-step second-order meta-loss of a network."""

    def task(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        def loss(at: Params, examples: Examples) -> Tensor:
            return F.cross_entropy(functional_call(net, dict(at), (examples.x,)), examples.y)

        gradient, _ = autodiff.gradient(lambda at: loss(at, support), meta, second_order=True)
        value = loss({n: v - 0.5 * gradient[n] for n, v in meta.items()}, query)
        return value, {"loss": value}

    return task, dict(net.named_parameters())


def network(middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), middle, nn.Linear(8, 2))


class Branching(nn.Module):
    """Control flow that depends on data, which vmap cannot run."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else 2 * x


@pytest.fixture
def _vmap_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing is decided by the fake; what the strategies compute is not."""
    times = iter([0.04, 0.02, 0.01])

    def seconds(run: Callable[[], object], enough: float = 0.0) -> float:
        run()
        return next(times)

    monkeypatch.setattr(auto, "_seconds", seconds)


@pytest.mark.usefixtures("_vmap_wins")
def test_a_faster_challenger_is_taken() -> None:
    task, meta = one_step(network(nn.Tanh()))
    strategy, tasks = Auto(expected_steps=1), made_tasks()
    found, _ = strategy.mean_gradient(task, meta, tasks)
    assert strategy.name == "vmap"
    assert strategy.report.endswith("vmap (loop 40.00 ms; vmap 20.00 ms)")
    expected, _ = Loop().mean_gradient(task, meta, tasks)
    for name in meta:
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.usefixtures("_vmap_wins")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_that_vmap_gets_wrong_runs_in_the_loop(dtype: torch.dtype) -> None:
    net = network(nn.LayerNorm(8)).to(dtype)
    task, meta = one_step(net)
    strategy = Auto(expected_steps=1)
    tasks = made_tasks().map(lambda t: t.to(dtype) if t.is_floating_point() else t)
    strategy.mean_gradient(task, meta, tasks)
    assert strategy.name == "loop"
    assert "vmap refused: its meta-gradient differs from the loop's" in strategy.report


@pytest.mark.usefixtures("_vmap_wins")
def test_a_model_that_vmap_cannot_run_runs_in_the_loop() -> None:
    task, meta = one_step(network(Branching()))
    strategy = Auto(expected_steps=1)
    strategy.mean_gradient(task, meta, made_tasks())
    assert strategy.name == "loop"
    assert "vmap impossible: RuntimeError" in strategy.report


@pytest.mark.usefixtures("_vmap_wins")
def test_evaluation_is_chosen_apart_and_a_failure_of_vmap_means_the_loop() -> None:
    strategy, trees = Auto(expected_steps=1), {"x": torch.randn(3, 2)}
    out = strategy.map(lambda tree, autodiff: {"y": tree["x"] if tree["x"].sum() > 0 else -tree["x"]}, trees)
    assert strategy.choices() == {"gradient": "auto", "map": "loop"}
    assert (out["y"].sum(1) >= 0).all()


def test_evaluation_is_timed_on_a_few_tasks() -> None:
    calls: list[int] = []

    def function(tree: dict[str, Tensor], autodiff: object) -> dict[str, Tensor]:
        calls.append(1)
        return {"y": tree["x"] + (1.0 if tree["x"] > -1 else 0.0)}  # impossible for vmap

    out = Auto(expected_steps=1).map(function, {"x": torch.arange(200.0)})
    assert torch.equal(out["y"], torch.arange(200.0) + 1)
    assert len(calls) <= 4 * 16 + 1 + 200  # a warm-up and three timed runs of 16, an attempt of vmap, and the evaluation


def test_the_users_own_error_is_shown() -> None:
    def broken(*arguments: object) -> tuple[Tensor, Params]:
        raise ValueError("my model is broken")

    with pytest.raises(ValueError, match="my model is broken"):
        Auto(expected_steps=1).mean_gradient(broken, {"w": torch.ones(1)}, made_tasks())
    with pytest.raises(ValueError, match="my model is broken"):
        Auto(expected_steps=1).map(broken, {"x": torch.ones(2, 1)})


def test_choosing_moves_no_random_numbers() -> None:
    """With dropout, a run that chooses draws the same numbers as one that was told."""
    task, meta = one_step(network(nn.Dropout(0.5)))
    strategy, tasks = Auto(expected_steps=1), made_tasks()
    before = torch.get_rng_state()
    found, _ = strategy.mean_gradient(task, meta, tasks)
    assert strategy.name == "loop"  # two random results never agree
    torch.set_rng_state(before)
    expected, _ = Loop().mean_gradient(task, meta, tasks)
    assert all(torch.equal(found[name], expected[name]) for name in meta)


STRATEGIES = [
    Loop(),
    Vmap(),
    Vmap(traced=True),
    Vmap(compiled=True),
    Workers(),
    Workers(within=Vmap()),
    Workers(within=Vmap(traced=True)),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_a_choice_is_restored(strategy: OverTasks) -> None:
    first, second = Auto(expected_steps=1), Auto(expected_steps=1)
    assert first.choices() == {"gradient": "auto", "map": "auto"}
    first.chosen, first.mapped = {"Loss()": strategy}, Loop()
    second.restore(first.choices())
    assert second.choices() == first.choices() == {"gradient": strategy.name, "map": "loop", "Loss()": strategy.name}
    assert type(second.chosen["Loss()"]) is type(strategy)


def test_choices_of_older_runs_serve_every_kind() -> None:
    strategy = Auto(expected_steps=1)
    strategy.restore({"gradient": "vmap", "map": "loop"})
    assert strategy.choices() == {"gradient": "vmap", "map": "loop"}
    task, meta = one_step(network(nn.Tanh()))
    strategy.mean_gradient(task, meta, made_tasks())
    assert strategy.choices() == {"gradient": "vmap", "map": "loop"}
    assert not strategy.report  # nothing was timed


def test_an_open_choice_stays_open() -> None:
    strategy = Auto(expected_steps=1)
    strategy.restore(Auto(expected_steps=1).choices())
    assert strategy.chosen == {}
    assert strategy.mapped is None


@dataclass(frozen=True)
class MetaLoss:
    """A meta-loss of either order, as picklable as the package's own."""

    net: nn.Module
    second_order: bool

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        def loss(at: Params, examples: Examples) -> Tensor:
            return F.cross_entropy(functional_call(self.net, dict(at), (examples.x,)), examples.y)

        gradient, _ = autodiff.gradient(lambda at: loss(at, support), meta, second_order=self.second_order)
        value = loss({n: v - 0.5 * gradient[n] for n, v in meta.items()}, query)
        return value, {"loss": value}


def test_each_kind_of_task_is_checked_and_chosen_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """vmap's second order is wrong through torch's layer norm, its first order is right."""
    times = iter([0.04, 0.01, 0.04, 0.01])
    monkeypatch.setattr(auto, "_seconds", lambda run, enough=0.0: run() and next(times))
    net = network(nn.LayerNorm(8))
    strategy, meta, tasks = Auto(expected_steps=1), dict(net.named_parameters()), made_tasks()
    strategy.mean_gradient(MetaLoss(net, second_order=False), meta, tasks)
    assert strategy.name == "vmap"
    found, _ = strategy.mean_gradient(MetaLoss(net, second_order=True), meta, tasks)
    assert strategy.name == "loop"
    assert strategy.choices() == {
        "gradient": "loop",
        "map": "auto",
        "MetaLoss(second_order=False)": "vmap",
        "MetaLoss(second_order=True)": "loop",
    }
    expected, _ = Loop().mean_gradient(MetaLoss(net, second_order=True), meta, tasks)
    assert all(torch.equal(found[name], expected[name]) for name in meta)


@pytest.mark.parametrize(("seconds", "wins"), [(1.0, True), (3.9, False)])
def test_long_runs_of_long_steps_are_tried_in_processes(seconds: float, wins: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([4.0, 3.0, seconds])  # the loop; vmap on few tasks; processes
    monkeypatch.setattr(auto, "_seconds", lambda run, enough=0.0: run() and next(times))
    monkeypatch.setattr(auto, "cores", lambda: 2)
    net = network(nn.Tanh())
    strategy = Auto(expected_steps=1000)
    strategy.mean_gradient(MetaLoss(net, second_order=True), dict(net.named_parameters()), made_tasks())
    assert strategy.name == "loop"  # processes start at the second meta-batch
    assert set(strategy.choices().values()) == {"auto"}  # a run that is killed now chooses again when it resumes
    strategy.mean_gradient(MetaLoss(net, second_order=True), dict(net.named_parameters()), made_tasks())
    assert strategy.name == ("workers" if wins else "loop")
    assert "workers impossible" not in strategy.report
    assert f"workers {seconds * 1e3:.2f} ms" in strategy.report


@pytest.mark.parametrize(("steps", "cores", "seconds"), [(10, 2, 4.0), (1000, 1, 4.0), (10**6, 2, 0.001)])
def test_processes_are_not_started_where_they_cannot_pay(
    steps: int, cores: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "_seconds", lambda run, enough=0.0: run() and seconds)
    monkeypatch.setattr(auto, "cores", lambda: cores)
    net = network(nn.Tanh())
    strategy = Auto(expected_steps=steps)
    for _ in range(2):
        strategy.mean_gradient(MetaLoss(net, second_order=True), dict(net.named_parameters()), made_tasks())
    assert "workers" not in strategy.report


def test_compiling_can_be_left_to_stretches_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def trial(run: object, challenger: OverTasks, *arguments: object, **settings: object) -> tuple[float, str]:
        tried.append(challenger.name)
        return {"vmap": 0.02, "traced vmap": 0.015, "compiled vmap": 0.001}[challenger.name], ""

    monkeypatch.setattr(auto, "_seconds", lambda run: run() and 0.04)
    monkeypatch.setattr(auto, "_vmap_trial", trial)
    monkeypatch.setattr(auto, "_trial", trial)
    monkeypatch.setattr(auto, "cores", lambda: 1)
    net = network(nn.Tanh())
    strategy, task = Auto(expected_steps=10**6), MetaLoss(net, second_order=True)
    strategy.allow_compiling(False)
    assert not strategy.runs_by_vmap
    strategy.mean_gradient(task, dict(net.named_parameters()), made_tasks())
    assert tried == ["vmap"]
    assert strategy.runs_by_vmap
    strategy.allow_compiling(True)
    assert not strategy.chosen
    monkeypatch.setattr(auto.Vmap, "mean_gradient", lambda *arguments: ({}, {}))
    for _ in range(2):
        strategy.mean_gradient(task, dict(net.named_parameters()), made_tasks())
    assert tried[1:] == ["vmap", "traced vmap", "compiled vmap"]


class Remembering(nn.Module):
    """A network whose number of calls is a constant of a recording."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1.0 + self.calls)


def test_a_recording_is_taken_for_a_small_win_but_not_if_it_misses_what_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for middle, name in ((nn.Tanh(), "traced vmap"), (Remembering(), "vmap")):
        net = network(middle)
        task, meta = one_step(net)
        strategy, clock = Auto(expected_steps=1000), iter([0.3, 0.1, 0.1, 0.097])
        monkeypatch.setattr(auto, "_seconds", lambda run, enough=0.0, clock=clock: run() and next(clock))
        monkeypatch.setattr(auto, "cores", lambda: 1)
        monkeypatch.setattr(auto, "distance_in_double", lambda *arguments: 0.0)
        for _ in range(2):
            strategy.mean_gradient(task, meta, made_tasks())
        assert strategy.name == name


@pytest.mark.usefixtures("_vmap_wins")
def test_a_meta_batch_that_does_not_fit_is_not_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "free_bytes", lambda device: 1000)
    task, meta = one_step(network(nn.Tanh()))
    strategy = Auto(expected_steps=1)
    strategy.mean_gradient(task, meta, made_tasks())
    assert strategy.name == "loop"
    assert "vmap not tried" in strategy.report


@pytest.mark.parametrize(("times", "choice"), [((4.0, 2.0), "loop"), ((4.0, 1.0, 1.0), "vmap")])
def test_vmap_of_long_tasks_is_tried_on_few_first(
    times: tuple[float, ...], choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial must not take the memory of all graphs only to find that vmap loses."""
    sizes, clock = [], iter(times)

    def run(strategy: OverTasks, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        sizes.append(len(tasks))
        return strategy.mean_gradient(task, meta, tasks)

    monkeypatch.setattr(auto, "_FEW", 2)
    monkeypatch.setattr(auto, "_seconds", lambda run, enough=0.0: run() and next(clock))
    task, meta = one_step(network(nn.Tanh()))
    strategy = Auto(expected_steps=1)
    chosen = strategy._choose("loss", run, meta, made_tasks(5))
    assert chosen.name == choice
    assert next(clock, None) is None
    if choice == "loop":
        assert "vmap no faster on 2 tasks (2000.00 ms)" in strategy.report
        assert sizes.count(5) == 1  # the loop's own


def test_a_challenger_that_is_clearly_slower_is_timed_once_and_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 1.0, 2.0])
    monkeypatch.setattr(auto.time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    assert auto._seconds(lambda: runs.append(1), enough=0.4) == 1.0
    assert len(runs) == 2  # with the warm-up
    monkeypatch.setattr(auto, "_agree", lambda *arguments: pytest.fail("a slower strategy was compared"))
    task, meta = one_step(network(nn.Tanh()))
    strategy = Auto(expected_steps=1)
    monkeypatch.setattr(auto, "_seconds", lambda run, enough=None: run() and (0.01 if enough is None else 0.02))
    strategy.mean_gradient(task, meta, made_tasks())
    assert strategy.name == "loop"
    assert "vmap 20.00 ms" in strategy.report
