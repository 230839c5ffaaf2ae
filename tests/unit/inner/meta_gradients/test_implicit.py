"""Implicit meta-gradients against closed forms and the finite differences of inner problems that are solved to the end."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.errors import UserError
from metaloop.inner.autodiff import Eager, Functional
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.meta_gradients.implicit import Implicit
from metaloop.inner.meta_gradients.linear_solver import ConjugateGradient, Neumann
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient, Unrolled
from metaloop.inner.problem import InnerProblem, TaskModel
from metaloop.inner.rules.rule import GradientDescent
from metaloop.types import Examples, Params, Tasks

PROXIMAL = 2.0
EXACT = Implicit(ConjugateGradient(iterations=30))
both = pytest.mark.parametrize("over_tasks", [Loop(), Vmap(), Vmap(chunk=1)], ids=["loop", "vmap", "chunks"])


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tasks(inputs: int = 3) -> Tasks:
    x, y = numbers(0, 2, 10, inputs), numbers(1, 2, 10, 1)
    return Tasks(Examples(x[:, :5], y[:, :5]), Examples(x[:, 5:], y[:, 5:]), torch.arange(2))


class Regression(TaskModel):
    """A head on features ``tanh(x B)``; the head adapts, B and a learned support weight ``w`` do not, or all adapts."""

    def __init__(self, adapted: tuple[str, ...]) -> None:
        self.adapted = adapted

    def start(self, meta: Params, support: Examples) -> Params:
        return {name: meta[name] for name in self.adapted}

    def _error(self, meta: Params, params: Params, examples: Examples) -> Tensor:
        at = {**meta, **params}
        answers = torch.tanh(examples.x @ at["body"]) @ at["head"]
        return answers, ((answers - examples.y) ** 2).mean()

    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        return meta["weight"].exp() * self._error(meta, params, support)[1]

    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples, taken: int) -> tuple[Tensor, Tensor]:
        answers, loss = self._error(meta, params, query)
        return loss, answers


def made_meta() -> dict[str, Tensor]:
    meta = {"body": 0.4 * numbers(2, 3, 4), "head": numbers(3, 4, 1), "weight": torch.tensor(0.3, dtype=torch.float64)}
    return {name: value.requires_grad_() for name, value in meta.items()}


def problem(adapted: tuple[str, ...], steps: int = 120) -> InnerProblem:
    meta = made_meta()
    rule = GradientDescent({name: meta[name] for name in adapted}, lr=0.18)
    return InnerProblem(Regression(adapted), rule, (*(0.0,) * steps, 1.0), steps, PROXIMAL)


def gradient(member: MetaGradient, of: InnerProblem, over_tasks: OverTasks) -> Params:
    meta = made_meta()
    member.check(of)
    member.loss(of, meta, tasks(), over_tasks).loss.backward()
    return {name: value.grad for name, value in meta.items()}


@both
def test_on_ridge_regression_it_is_the_closed_form(over_tasks: OverTasks) -> None:
    # The head's inner loss is exp(w) |F h - y|^2 / n + proximal / 2 |h - h0|^2: its minimiser is a linear solve.
    meta = made_meta()
    data, total = tasks(), torch.zeros(())
    for i in range(2):
        features = torch.tanh(data.support.x[i] @ meta["body"])
        scale = 2 * meta["weight"].exp() / len(features)
        matrix = scale * features.T @ features + PROXIMAL * torch.eye(4)
        head = torch.linalg.solve(matrix, scale * features.T @ data.support.y[i] + PROXIMAL * meta["head"])
        total = total + ((torch.tanh(data.query.x[i] @ meta["body"]) @ head - data.query.y[i]) ** 2).mean() / 2
    total.backward()
    found = gradient(EXACT, problem(("head",)), over_tasks)
    for name, value in meta.items():
        assert value.grad.abs().max() > 1e-3
        torch.testing.assert_close(found[name], value.grad, rtol=1e-8, atol=1e-10)


@pytest.fixture(scope="module")
def unrolled() -> Params:
    """The derivative of a network through all the steps to the minimum."""
    return gradient(Unrolled(), problem(("body", "head")), Loop())


@both
def test_on_a_network_it_is_the_derivative_of_the_solved_inner_problem(over_tasks: OverTasks, unrolled: Params) -> None:
    found = gradient(EXACT, problem(("body", "head")), over_tasks)
    for name, value in unrolled.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9)


def test_on_a_network_it_is_the_finite_difference_of_the_solved_inner_problem() -> None:
    of = problem(("body", "head"))
    found = gradient(EXACT, of, Vmap())
    direction = {name: numbers(7 + i, *value.shape) for i, (name, value) in enumerate(made_meta().items())}

    def solved(by: float) -> float:
        meta = {name: value.detach() + by * direction[name] for name, value in made_meta().items()}
        with torch.no_grad():
            return Unrolled().loss(of, meta, tasks(), Loop()).loss.item()

    slope = sum(float((found[name] * direction[name]).sum()) for name in found)
    assert slope == pytest.approx((solved(1e-5) - solved(-1e-5)) / 2e-5, rel=1e-7)


@both
def test_a_neumann_series_converges_to_conjugate_gradients(over_tasks: OverTasks) -> None:
    of = problem(("body", "head"))
    exact = gradient(EXACT, of, over_tasks)
    errors = []
    for terms in (1, 10, 100):
        found = gradient(Implicit(Neumann(terms, rate=0.18)), of, over_tasks)
        errors.append(max(float((found[name] - value).abs().max()) for name, value in exact.items()))
    assert errors[0] > 5 * errors[1] > 1e3 * errors[2]
    assert errors[2] < 1e-9


def matrix_of(values: Tensor) -> Tensor:
    basis = torch.linalg.qr(numbers(4, len(values), len(values)))[0]
    return basis @ torch.diag(values) @ basis.T


def test_solvers_solve_damped_systems_exactly_and_stop_at_the_solution() -> None:
    matrix, b = matrix_of(torch.tensor([0.5, 1.0, 3.0, 4.0], dtype=torch.float64)), numbers(5, 4)
    expected = torch.linalg.solve(matrix + 0.5 * torch.eye(4), b)
    for solver in (ConjugateGradient(4, 0.5), ConjugateGradient(50, 0.5), Neumann(300, 0.3, 0.5)):
        found = solver.solve(lambda v: {"p": matrix @ v["p"]}, {"p": b})["p"]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    zero = ConjugateGradient(3).solve(lambda v: {"p": matrix @ v["p"]}, {"p": 0 * b})["p"]
    assert torch.equal(zero, 0 * b)


def test_conjugate_gradients_end_at_negative_curvature() -> None:
    matrix = torch.diag(torch.tensor([2.0, -1.0]))
    for b, expected in (([1.0, 0.0], [0.5, 0.0]), ([0.0, 1.0], [0.0, 0.0])):
        found = ConjugateGradient(5).solve(lambda v: {"p": matrix @ v["p"]}, {"p": torch.tensor(b)})["p"]
        torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("autodiff", [Eager(), Functional()], ids=["eager", "functional"])
def test_linearized_functions_pull_back_again_and_again(autodiff: Eager | Functional) -> None:
    layer = nn.Linear(3, 2).double()
    at = {name: value.detach() for name, value in layer.named_parameters()} | {"unused": torch.ones(2)}

    def function(params: Params) -> Params:
        used = {name: value for name, value in params.items() if name != "unused"}
        return {"out": functional_call(layer, used, (numbers(6, 3),)).tanh(), "constant": torch.ones(2)}

    pull = autodiff.linearized(function, at)
    jacobian = torch.func.jacrev(lambda params: function(params)["out"])(at)
    for seed in (8, 9):
        cotangent = numbers(seed, 2)
        pulled = pull({"out": cotangent, "constant": torch.ones(2)})
        for name, rows in jacobian.items():
            torch.testing.assert_close(pulled[name], torch.tensordot(cotangent, rows.to(cotangent), 1).to(pulled[name]))


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"solver\.iterations=0"):
        ConjugateGradient(0)
    with pytest.raises(UserError, match=r"solver\.damping=-1"):
        ConjugateGradient(1, -1.0)
    with pytest.raises(UserError, match=r"solver\.terms=0"):
        Neumann(0, 0.1)
    with pytest.raises(UserError, match=r"solver\.rate=0"):
        Neumann(1, 0.0)
