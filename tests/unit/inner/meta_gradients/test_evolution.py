"""Evolution strategies against exact gradients, within their standard errors; what makes them reproducible."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Eager, Functional
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.meta_gradients.evolution import EvolutionStrategies, PersistentEvolution, TaskPair
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient, Unrolled
from metaloop.inner.meta_gradients.truncated import Windows
from metaloop.inner.problem import InnerProblem, TaskModel
from metaloop.inner.rules.learned_rates import LearnedRate
from metaloop.inner.rules.rule import GradientDescent, InnerRule
from metaloop.types import Examples, Params, Tasks

SAMPLES = 20_000
TARGETS = torch.tensor([[[1.0, -0.5, 2.0]], [[0.3, 0.8, -1.0]]], dtype=torch.float64)  # tasks, one example, numbers
CURVATURE = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
START = torch.tensor([0.2, -1.0, 0.7], dtype=torch.float64)


class Bowl(TaskModel):
    """The point ``p`` descends ``sum of c (p - y)^2 / 2``, y the support target, and is asked the same of the query's."""

    def start(self, meta: Params, support: Examples) -> Params:
        return {"p": meta["model.p"]}

    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        return (CURVATURE * (params["p"] - support.y[0]) ** 2).sum() / 2

    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples, taken: int) -> tuple[Tensor, Tensor]:
        return (CURVATURE * (params["p"] - query.y[0]) ** 2).sum() / 2, params["p"][None]


def tasks(*index: int) -> Tasks:
    """Copies of the two tasks, told apart by their numbers alone."""
    rows = torch.arange(len(index)) % 2
    y = TARGETS[rows]
    return Tasks(Examples(y, y), Examples(-y, -y), torch.tensor(index))


def made(steps: int, weights: tuple[float, ...], *, learned: bool) -> tuple[InnerProblem, dict[str, Tensor]]:
    build = partial(LearnedRate, granularity="element") if learned else GradientDescent
    rule: InnerRule = build({"p": START}, lr=0.1)
    meta = {"model.p": START} | {"rule." + name: value for name, value in rule.named_parameters()}
    meta = {name: value.detach().clone().requires_grad_() for name, value in meta.items()}
    return InnerProblem(Bowl(), rule, weights, steps), meta


def estimates(problem: InnerProblem, meta: Params, sigma: float, length: int) -> Tensor:
    """(samples, meta-parameters): single pairs' estimates for the first task."""
    task = tasks(0).map(lambda t: t[0])
    pair = TaskPair(problem, sigma, length)

    def one(number: Tensor) -> Params:
        return pair(meta, replace(task.support, number=number), task.query, Functional())[0]

    with torch.no_grad():
        found = torch.func.vmap(one)(torch.arange(SAMPLES))
    return torch.cat([found[name].flatten(1) for name in meta], 1)


def exact(member: MetaGradient, problem: InnerProblem, meta: dict[str, Tensor]) -> Tensor:
    gradients, _ = member.mean(problem, meta, tasks(0), Loop())
    return torch.cat([gradients[name].flatten() for name in meta])


def errors(found: Tensor, expected: Tensor) -> Tensor:
    """How many standard errors the mean estimate is off, in each meta-parameter."""
    return (found.mean(0) - expected).abs() * SAMPLES**0.5 / found.std(0)


def test_on_a_quadratic_the_mean_is_the_gradient_at_any_sigma() -> None:
    # Descent is linear in the start, so the outer loss is quadratic in it, and smoothing adds a constant.
    problem, meta = made(2, (0.0, 0.0, 1.0), learned=False)
    shrink = (1 - 0.1 * CURVATURE) ** 2
    y = TARGETS[0, 0]
    expected = shrink * CURVATURE * (y + shrink * (START - y) + y)
    torch.testing.assert_close(exact(Unrolled(), problem, meta), expected)
    for sigma in (1e-3, 0.5):
        found = estimates(problem, meta, sigma, length=2)
        assert errors(found, expected).max() < 4
        assert errors(found, 1.2 * expected).max() > 10
        # Var[(g e) e_i] = |g|^2 + g_i^2 for standard normal e
        torch.testing.assert_close(found.var(0), expected.square().sum() + expected**2, rtol=0.1, atol=0)


def test_with_a_small_sigma_the_mean_is_the_unrolled_gradient_of_everything() -> None:
    problem, meta = made(4, (0.0, 0.2, 0.0, 0.3, 0.5), learned=True)
    expected = exact(Unrolled(), problem, meta)
    found = estimates(problem, meta, 1e-4, length=4)
    assert errors(found, expected).max() < 4
    assert errors(found, 1.2 * expected).max() > 10


def test_persistent_evolution_has_no_bias_where_truncation_has() -> None:
    problem, meta = made(4, (0.0, 0.2, 0.0, 0.3, 0.5), learned=True)
    expected = exact(Unrolled(), problem, meta)
    found = estimates(problem, meta, 1e-4, length=2)
    assert errors(found, expected).max() < 4
    assert errors(found, exact(Windows(2, second_order=True), problem, meta)).max() > 20


def test_one_window_is_evolution_strategies() -> None:
    problem, meta = made(3, (0.0, 0.0, 0.5, 0.5), learned=True)
    one = EvolutionStrategies(pairs=3, sigma=0.1).mean(problem, meta, tasks(4, 9), Loop())[0]
    for length in (3, 7):
        other = PersistentEvolution(pairs=3, sigma=0.1, length=length).mean(problem, meta, tasks(4, 9), Loop())[0]
        assert all(torch.equal(one[name], other[name]) for name in one)
    other = PersistentEvolution(pairs=3, sigma=0.1, length=2).mean(problem, meta, tasks(4, 9), Loop())[0]
    assert not any(torch.allclose(one[name], other[name]) for name in one)


MEMBERS = [EvolutionStrategies(pairs=3, sigma=0.1), PersistentEvolution(pairs=3, sigma=0.1, length=2)]


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap(), Vmap(chunk=1)], ids=["loop", "vmap", "chunks"])
@pytest.mark.parametrize("member", MEMBERS, ids=["evolution", "persistent"])
def test_a_tasks_noise_depends_on_its_number_alone(member: MetaGradient, over_tasks: OverTasks) -> None:
    problem, meta = made(3, (0.0, 0.0, 0.5, 0.5), learned=True)
    together = member.mean(problem, meta, tasks(5, 2), over_tasks)[0]
    first = member.mean(problem, meta, tasks(5), Loop())[0]
    second = member.mean(problem, meta, tasks(5, 2)[1:], Loop())[0]
    other = member.mean(problem, meta, tasks(6), Loop())[0]
    for name, value in together.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)
        assert not torch.allclose(first[name], other[name])


@pytest.mark.parametrize("member", MEMBERS, ids=["evolution", "persistent"])
def test_the_loss_and_logits_are_the_unperturbed_ones(member: MetaGradient) -> None:
    problem, meta = made(3, (0.0, 0.0, 0.5, 0.5), learned=True)
    _, aside = member.mean(problem, meta, tasks(0, 1), Vmap())
    _, expected = Unrolled().mean(problem, meta, tasks(0, 1), Loop())
    for name in ("loss", "logits", "per_step"):
        torch.testing.assert_close(aside[name], expected[name])


def test_pairs_and_windows_draw_noise_of_their_own_and_the_task_none_of_it() -> None:
    problem, meta = made(4, (0.0, 0.0, 0.0, 0.0, 1.0), learned=True)
    task = tasks(3).map(lambda t: t[0])
    seen: list[int] = []

    class Watched(Bowl):
        def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
            seen.append(int(support.number))
            return super().support_loss(meta, params, support, step)

    found = []
    for pair in (0, 1):
        numbered = replace(task.support, number=task.support.number + (pair << 40))
        for length in (4, 2):
            watched = replace(problem, task=Watched())
            found.append(TaskPair(watched, 0.1, length)(meta, numbered, task.query, Eager())[0]["model.p"])
    assert set(seen) == {3}
    for i, left in enumerate(found):
        assert all(not torch.allclose(left, right) for right in found[:i])


def test_all_pairs_run_the_same_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: compiled.append(graph) or graph)
    problem, meta = made(3, (0.0, 0.0, 0.5, 0.5), learned=True)
    over_tasks = Vmap(compiled=True)
    for step in range(2):
        now = replace(problem, outer_step=step)
        gradients, aside = MEMBERS[1].mean(now, meta, tasks(5 + step, 2), over_tasks)
        expected, expected_aside = MEMBERS[1].mean(now, meta, tasks(5 + step, 2), Loop())
        for name, value in gradients.items():
            torch.testing.assert_close(value, expected[name])
        torch.testing.assert_close(aside["loss"], expected_aside["loss"])
    assert len(compiled) == 2  # one for the pairs, one for the unperturbed loss


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"meta_gradient\.pairs=0"):
        EvolutionStrategies(pairs=0, sigma=0.1)
    with pytest.raises(UserError, match=r"meta_gradient\.sigma=0"):
        PersistentEvolution(pairs=1, sigma=0.0, length=1)
    with pytest.raises(UserError, match=r"meta_gradient\.length=0"):
        PersistentEvolution(pairs=1, sigma=0.1, length=0)
