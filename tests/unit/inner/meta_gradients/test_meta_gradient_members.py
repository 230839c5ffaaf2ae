"""What single meta-gradients and objectives compute beside the contracts, and what they refuse."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.meta_gradients.annealed import Annealed
from metaloop.inner.meta_gradients.meta_gradient import Displacement, FirstOrder, MetaGradient, Nothing, Unrolled
from metaloop.inner.meta_gradients.reverse_sweep import ReverseSweep
from metaloop.inner.meta_gradients.truncated import Truncated, Windows
from metaloop.inner.meta_gradients.window import spans
from metaloop.inner.objective import AnnealedSum, LastStep, Start
from metaloop.inner.problem import InnerProblem, TaskModel
from metaloop.inner.rules.learned_rates import LearnedRate
from metaloop.inner.rules.rule import GradientDescent
from metaloop.types import Examples, Params, Tasks

STEPS = 6
LAST = (0.0,) * STEPS + (1.0,)
ALL = (0.0, *(1 / STEPS,) * STEPS)
both = pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])


class Valley(TaskModel):
    """The point descends a quartic around its target from a learned start, or from zero; counts what is asked of it."""

    def __init__(self, *, learned: bool = True) -> None:
        self.learned = learned
        self.steps: list[int] = []

    def start(self, meta: Params, support: Examples) -> Params:
        return {"p": meta["model.p"] if self.learned else torch.zeros(2, dtype=torch.float64)}

    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        self.steps.append(step)
        return ((params["p"] - support.y[0]) ** 4).sum() / 4

    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples, taken: int) -> tuple[Tensor, Tensor]:
        return ((params["p"] - query.y[0]) ** 2).sum(), params["p"][None]


def tasks() -> Tasks:
    y = torch.tensor([[[1.0, -0.5]], [[0.3, 0.8]]], dtype=torch.float64)
    return Tasks(Examples(y, y), Examples(-y, -y), torch.arange(2))


def made(weights: tuple[float, ...], *, rates: bool = False, start: bool = True) -> tuple[InnerProblem, dict[str, Tensor]]:
    point = torch.tensor([0.2, 0.4], dtype=torch.float64)
    rule = (partial(LearnedRate, granularity="tensor") if rates else GradientDescent)({"p": point}, lr=0.1)
    meta = ({"model.p": point} if start else {}) | {"rule." + name: value for name, value in rule.named_parameters()}
    meta = {name: value.detach().clone().requires_grad_() for name, value in meta.items()}
    return InnerProblem(Valley(learned=start), rule, weights, len(weights) - 1), meta


def gradient(member: MetaGradient, weights: tuple[float, ...], over_tasks: OverTasks, **choices: bool) -> Tensor:
    problem, meta = made(weights, **choices)
    return torch.cat([value.flatten() for value in member.mean(problem, meta, tasks(), over_tasks)[0].values()])


@both
@pytest.mark.parametrize("weights", [LAST, ALL], ids=["last", "all"])
def test_truncation_goes_from_first_order_to_unrolled(weights: tuple[float, ...], over_tasks: OverTasks) -> None:
    exact = gradient(Unrolled(), weights, over_tasks, rates=True)
    found = [gradient(Truncated(last), weights, over_tasks, rates=True) for last in range(STEPS + 3)]
    torch.testing.assert_close(found[0], gradient(FirstOrder(), weights, over_tasks, rates=True))
    for same in found[STEPS:]:
        torch.testing.assert_close(same, exact)
    errors = [float((value - exact).norm()) for value in found[: STEPS + 1]]
    assert errors == sorted(errors, reverse=True)
    assert errors[STEPS - 1] > 1e-4


@both
@pytest.mark.parametrize("second_order", [True, False])
def test_one_window_or_windows_of_all_steps_are_the_whole(second_order: bool, over_tasks: OverTasks) -> None:
    whole = gradient(Unrolled() if second_order else FirstOrder(), ALL, over_tasks, rates=True)
    for length in (STEPS, STEPS + 5):
        found = gradient(Windows(length, second_order=second_order), ALL, over_tasks, rates=True)
        torch.testing.assert_close(found, whole)
    for length in (1, 4):
        found = gradient(Windows(length, second_order=second_order), ALL, over_tasks, rates=True)
        assert (found - whole).norm() > 1e-2


@both
def test_windows_that_do_not_count_are_walked_through(over_tasks: OverTasks) -> None:
    # Only the last window has a loss: what it gives the rate is the gradient of its own two steps, and the start gets none.
    problem, meta = made(LAST, rates=True)
    found = Windows(2, second_order=True).mean(problem, meta, tasks(), over_tasks)[0]
    assert not found["model.p"].any()
    rate, total = meta["rule.rates.p"], torch.zeros(())
    for y in tasks().support.y[:, 0]:
        point = meta["model.p"].detach()
        for step in range(STEPS):
            point = point.detach() if step == 4 else point
            point = point - rate * (point - y) ** 3
        total = total + ((point + y) ** 2).sum() / 2
    torch.testing.assert_close(found["rule.rates.p"], torch.autograd.grad(total, rate)[0])


def test_spans_cover_the_steps_once() -> None:
    assert list(spans(5, 2)) == [range(2), range(2, 4), range(4, 5)]
    assert list(spans(4, 9)) == [range(4)]
    assert list(spans(0, 3)) == [range(0)]


def test_an_annealed_meta_gradient_changes_at_its_outer_step() -> None:
    problem, meta = made(LAST)
    annealed = Annealed(FirstOrder(), Unrolled(), until=10)
    for outer_step, now in ((0, FirstOrder()), (9, FirstOrder()), (10, Unrolled()), (11, Unrolled())):
        found = annealed.mean(replace(problem, outer_step=outer_step), meta, tasks(), Loop())[0]
        assert torch.equal(found["model.p"], now.mean(problem, meta, tasks(), Loop())[0]["model.p"])


def test_an_annealed_meta_gradient_checks_both() -> None:
    problem, _ = made(LAST, rates=True)
    Annealed(FirstOrder(), Unrolled(), until=1).check(problem)
    for before, after in ((Displacement(), Unrolled()), (Unrolled(), Displacement())):
        with pytest.raises(UserError, match="displacement cannot learn the rule's parameters"):
            Annealed(before, after, until=1).check(problem)


@both
def test_nothing_is_a_gradient_of_zero_and_the_loss_as_it_is(over_tasks: OverTasks) -> None:
    problem, meta = made(ALL, rates=True)
    outcome = Nothing().loss(problem, meta, tasks(), over_tasks)
    expected = Unrolled().loss(problem, meta, tasks(), Loop())
    outcome.loss.backward()
    assert all(torch.equal(value.grad, torch.zeros_like(value)) for value in meta.values())
    for name in ("loss", "query_logits", "per_step"):
        torch.testing.assert_close(getattr(outcome, name), getattr(expected, name))


@both
@pytest.mark.parametrize("member", [Nothing(), FirstOrder(), Windows(2, second_order=False)], ids=lambda m: type(m).__name__)
def test_without_meta_parameters_there_still_is_a_loss_to_call_backward_on(member: MetaGradient, over_tasks: OverTasks) -> None:
    problem, meta = made(ALL, start=False)
    assert not meta
    outcome = member.loss(problem, meta, tasks(), over_tasks)
    outcome.loss.backward()
    assert outcome.per_step.shape == (2, STEPS)
    with torch.no_grad():
        torch.testing.assert_close(outcome.loss.detach(), member.loss(problem, meta, tasks(), over_tasks).loss)


def test_no_step_is_taken_that_the_objective_does_not_see() -> None:
    for member in (Unrolled(), ReverseSweep(), FirstOrder(), Nothing(), Windows(2, second_order=True)):
        for weights, steps in ((Start().weights(STEPS, 0), 0), ((0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0), 2)):
            problem, meta = made(weights)
            _, aside = member.mean(problem, meta, tasks(), Loop())
            assert problem.horizon == steps
            assert set(problem.task.steps) == set(range(steps))
            assert aside["logits"].shape == (2, 1, 2)


def test_the_start_alone_is_joint_training() -> None:
    problem, meta = made(Start().weights(STEPS, 0))
    y = tasks().query.y[:, 0]
    expected = 2 * (meta["model.p"].detach() - y).mean(0)
    for member in (Unrolled(), ReverseSweep(), FirstOrder()):
        torch.testing.assert_close(member.mean(problem, meta, tasks(), Loop())[0]["model.p"], expected)


def test_annealed_weights_move_in_stages_from_equal_to_the_last_step() -> None:
    objective = AnnealedSum(until=100, stages=4)
    assert objective.weights(4, 0) == objective.weights(4, 24) == (0, 0.25, 0.25, 0.25, 0.25)
    assert objective.weights(4, 25) == pytest.approx((0, 0.1875, 0.1875, 0.1875, 0.4375))
    assert len({objective.weights(4, step) for step in range(120)}) == 5
    for step in (100, 101, 10**9):
        assert objective.weights(4, step) == LastStep().weights(4, step)
    assert AnnealedSum(until=0).weights(3, 0) == LastStep().weights(3, 0)
    assert objective.weights(1, 50) == (0, 1)


def test_wrong_numbers_are_refused() -> None:
    for make, said in (
        (lambda: Truncated(-1), r"meta_gradient\.last=-1"),
        (lambda: Windows(0, second_order=True), r"meta_gradient\.length=0"),
        (lambda: Annealed(FirstOrder(), Unrolled(), -1), r"meta_gradient\.until=-1"),
        (lambda: AnnealedSum(-1), r"objective\.until=-1"),
        (lambda: AnnealedSum(1, stages=0), r"objective\.stages=0"),
    ):
        with pytest.raises(UserError, match=said):
            make()
