"""The comparison of vmap chosen by hand with the loop."""

import pytest
import torch
from test_auto import made_tasks, network, one_step
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.execution.workers import Workers
from metaloop.types import Tasks


class Frozen32(nn.Module):
    """A constant of float32 that is no buffer, so that the network does not run in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = [torch.randn(8, 8)]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.constant[0]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else 2 * x


STRATEGIES = [Vmap(), Vmap(chunk=2), Workers(within=Vmap())]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_A2_a_wrong_meta_gradient_is_refused_with_the_remedy(strategy: OverTasks) -> None:
    task, meta = one_step(network(nn.LayerNorm(8)))  # torch's own, through which vmap is wrong
    with pytest.raises(UserError, match=r"is 0\.\d+ off the loop's.*over_tasks=loop.*metaloop\.models\.norm\.Norm"):
        strategy.mean_gradient(task, meta, made_tasks())


def test_A2_the_unchecked_strategy_is_wrong_without_an_error() -> None:
    task, meta = one_step(network(nn.LayerNorm(8)))
    tasks = made_tasks()
    expected, _ = Loop().mean_gradient(task, meta, tasks)
    actual, _ = Vmap(checked=False).mean_gradient(task, meta, tasks)
    assert max((actual[name] - expected[name]).abs().max() / expected[name].abs().max() for name in expected) > 1e-3


@pytest.mark.parametrize(("middle", "message"), [(Branching(), "vmap cannot run"), (Frozen32(), "does not run in float64")])
def test_what_cannot_be_run_or_compared_is_refused(middle: nn.Module, message: str) -> None:
    task, meta = one_step(network(middle))
    with pytest.raises(UserError, match=f"{message}.*over_tasks=loop"):
        Vmap().mean_gradient(task, meta, made_tasks())


def test_a_right_network_runs_and_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    loop = Loop.mean_gradient
    monkeypatch.setattr(Loop, "mean_gradient", lambda self, *rest: calls.append(1) or loop(self, *rest))
    task, meta = one_step(network(nn.Tanh()))
    strategy, tasks = Vmap(), made_tasks()
    for _ in range(3):
        strategy.mean_gradient(task, meta, tasks)
    assert len(calls) == 3  # in its own type, and twice in float64


def test_random_networks_run_and_the_check_draws_nothing() -> None:
    task, meta = one_step(network(nn.Dropout(0.5)))
    torch.manual_seed(3)
    checked, _ = Vmap().mean_gradient(task, meta, made_tasks_of(1))
    torch.manual_seed(3)
    plain, _ = Vmap(checked=False).mean_gradient(task, meta, made_tasks_of(1))
    torch.testing.assert_close(checked, plain)


def made_tasks_of(seed: int) -> Tasks:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return made_tasks()
