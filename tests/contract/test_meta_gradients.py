"""Meta-gradients against oracles: finite differences, definitions written out by hand, a closed form. All in float64."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from made_tasks import (
    WAYS,
    along,
    central_difference,
    distance,
    made_model,
    made_tasks,
    meta_gradient,
    random_direction,
)
from members import ADAPTED, APPROXIMATE, EXACT, HEAD_INITS, MODELS, OBJECTIVES, RULES, TASK_LOSSES, gradient_learner
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.errors import UserError
from metaloop.inner.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.gradient import GradientLearner
from metaloop.models.norm import MODES
from metaloop.types import Examples, Params, Tasks

RELATIVE = 1e-6
SIZES = (1e-6, 1e-7, 3e-8)
EQUAL = 1e-9  # between ways to compute the same sum

Make = Callable[..., GradientLearner]


def check_against_finite_differences(make: Make, tasks: Tasks) -> None:
    """The unrolled loop along a random direction of all meta-parameters; each other exact way equals it as a whole vector."""
    learner = make(Loop(), meta_gradient=EXACT["unrolled"])
    parameters = dict(learner.named_parameters())
    direction = random_direction(parameters, seed=0)

    def value() -> float:
        with torch.no_grad():
            return learner.meta_loss(tasks).loss.item()

    _, reference = meta_gradient(learner, tasks)
    # A ReLU may have its kink between the two ends of a difference; a wrong gradient agrees at no size.
    found = [along(reference, direction), *(central_difference(value, parameters, direction, s) for s in SIZES[:1])]
    for size in SIZES[1:]:
        if found[-1] != pytest.approx(found[0], rel=RELATIVE):
            found.append(central_difference(value, parameters, direction, size))
    assert found[-1] == pytest.approx(found[0], rel=RELATIVE), found
    for exact, over_tasks in product(EXACT.values(), (Loop(), Vmap())):
        _, gradient = meta_gradient(make(over_tasks, meta_gradient=exact), tasks)
        assert distance(gradient, reference) < EQUAL


@pytest.mark.parametrize("norm", MODES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("adapted", ADAPTED)
def test_exact_ones_equal_finite_differences(adapted: str, rule: str, norm: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return gradient_learner(made_model(norm=norm), over_tasks, adapted=ADAPTED[adapted], rule=RULES[rule], **choices)

    check_against_finite_differences(make, made_tasks(tasks=2))


@pytest.mark.parametrize("masked", [False, True], ids=["all real", "masked"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("norm", ["batch", "support"])
def test_exact_ones_with_masks_and_objectives(norm: str, objective: str, masked: bool) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return gradient_learner(
            made_model(norm=norm),
            over_tasks,
            objective=OBJECTIVES[objective],
            rule=RULES["rate per element"],
            **choices,
        )

    check_against_finite_differences(make, made_tasks(tasks=2, masked=masked))


@pytest.mark.parametrize("model", MODELS)
def test_exact_ones_through_every_model(model: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return gradient_learner(made_model(model), over_tasks, **choices)

    check_against_finite_differences(make, made_tasks(model, tasks=2, masked=True))


@pytest.mark.parametrize("head_init", HEAD_INITS)
@pytest.mark.parametrize("inner_batch", [None, 4])
def test_exact_ones_from_every_head_start(head_init: str, inner_batch: int | None) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return gradient_learner(
            made_model("mlp"), over_tasks, head_init=HEAD_INITS[head_init], inner_batch=inner_batch, **choices
        )

    check_against_finite_differences(make, made_tasks("mlp", tasks=2))


def test_exact_ones_for_regression() -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        model = made_model("mlp", outputs=1, norm="none")
        return gradient_learner(model, over_tasks, loss=TASK_LOSSES["mean squared error"], **choices)

    random = torch.Generator().manual_seed(0)

    def points() -> Examples:
        numbers = torch.randn(2, 4, 6, generator=random, dtype=torch.float64)
        return Examples(numbers[..., :5], numbers[..., 5:])

    check_against_finite_differences(make, Tasks(points(), points(), torch.arange(2)))


class Quadratic(nn.Module):
    """Answers its parameter, so that the squared error is a quadratic of it."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([0.3, -1.2], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.point * torch.ones_like(x)


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("steps", [1, 3])
def test_on_a_quadratic_all_equal_the_closed_form(steps: int, over_tasks: OverTasks) -> None:
    # Support loss |p - s|^2 / 2 (a mean over two entries), so with rate 0.1 each step shrinks the distance by k = 0.9:
    # p_n = s + k^n (p - s), query loss |p_n - q|^2 / 2, meta-gradient k^n (p_n - q).
    k, n = 0.9, steps
    support = torch.tensor([[[1.0, 2.0]], [[-1.0, 0.5]]], dtype=torch.float64)
    query = torch.tensor([[[0.0, 1.0]], [[2.0, 2.0]]], dtype=torch.float64)
    tasks = Tasks(Examples(support, support), Examples(query, query), torch.arange(2))
    start = Quadratic().point.detach()
    adapted = support[:, 0] + k**n * (start - support[:, 0])
    expected = {
        "unrolled": k**n * (adapted - query[:, 0]),
        "reverse sweep": k**n * (adapted - query[:, 0]),
        "first order": adapted - query[:, 0],
        "displacement": start - adapted,
    }
    for name, member in (EXACT | APPROXIMATE).items():  # type: ignore[operator]
        learner = gradient_learner(
            Quadratic(), over_tasks, loss=TASK_LOSSES["mean squared error"], meta_gradient=member, steps=steps
        )
        loss, gradient = meta_gradient(learner, tasks)
        assert loss.item() == pytest.approx(((adapted - query[:, 0]) ** 2).mean().item())
        torch.testing.assert_close(gradient["model.point"], expected[name].mean(0))


def adapted_by_hand(learner: GradientLearner, names: tuple[str, ...], task: Tasks, *, steps: int) -> Params:
    """Gradient descent at 0.1 on one task's support loss, the inner gradients detached."""
    own = dict(learner.model.named_parameters())
    params = {name: own[name] for name in names}
    for _ in range(steps):
        loss = F.cross_entropy(functional_call(learner.model, own | params, (task.support.x,)), task.support.y)
        gradients = torch.autograd.grad(loss, list(params.values()), retain_graph=True)
        params = {
            name: value - 0.1 * gradient.detach() for (name, value), gradient in zip(params.items(), gradients, strict=True)
        }
    return params


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("adapted", ADAPTED)
def test_first_order_equals_detaching_by_hand(adapted: str, over_tasks: OverTasks) -> None:
    tasks = made_tasks()
    learner = gradient_learner(made_model(), over_tasks, adapted=ADAPTED[adapted], meta_gradient=APPROXIMATE["first order"])
    loss, gradient = meta_gradient(learner, tasks)

    learner.zero_grad()
    losses = []
    for i in range(len(tasks)):
        task = tasks.map(lambda t, i=i: t[i])
        params = adapted_by_hand(learner, ADAPTED[adapted].names(learner.model), task, steps=2)
        logits = functional_call(learner.model, params, (task.query.x,))
        losses.append(F.cross_entropy(logits, task.query.y))
    expected = torch.stack(losses).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert distance(gradient, {n: p.grad for n, p in learner.named_parameters()}) < EQUAL


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
def test_first_order_gives_a_learned_rate_its_inner_gradient(over_tasks: OverTasks) -> None:
    # d L(p - a g) / da = -<grad L(adapted), g> for one step and one rate a tensor, with g a constant.
    tasks = made_tasks(tasks=1)
    learner = gradient_learner(
        made_model(), over_tasks, rule=RULES["rate per tensor"], meta_gradient=APPROXIMATE["first order"], steps=1
    )
    _, gradient = meta_gradient(learner, tasks)
    own, task = dict(learner.model.named_parameters()), tasks.map(lambda t: t[0])
    inner = torch.autograd.grad(F.cross_entropy(learner.model(task.support.x), task.support.y), list(own.values()))
    moved = {n: (p - 0.1 * g).detach().requires_grad_() for (n, p), g in zip(own.items(), inner, strict=True)}
    outer = torch.autograd.grad(
        F.cross_entropy(functional_call(learner.model, moved, (task.query.x,)), task.query.y), list(moved.values())
    )
    for name, g, o in zip(own, inner, outer, strict=True):
        found = gradient["rule.rates." + name.replace(".", "/")]
        torch.testing.assert_close(found, -(g * o).sum())


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("adapted", ADAPTED)
def test_displacement_is_start_minus_adapted(adapted: str, over_tasks: OverTasks) -> None:
    tasks = made_tasks()
    learner = gradient_learner(made_model(), over_tasks, adapted=ADAPTED[adapted], meta_gradient=APPROXIMATE["displacement"])
    _, gradient = meta_gradient(learner, tasks)
    names = ADAPTED[adapted].names(learner.model)
    expected = {name: torch.zeros_like(p) for name, p in learner.named_parameters()}
    for i in range(len(tasks)):
        params = adapted_by_hand(learner, names, tasks.map(lambda t, i=i: t[i]), steps=2)
        for name in names:
            expected["model." + name] += (learner.model.get_parameter(name) - params[name]).detach() / len(tasks)
    assert distance(gradient, expected) < EQUAL


def test_displacement_leaves_a_head_alone_that_starts_elsewhere() -> None:
    for over_tasks in (Loop(), Vmap()):
        learner = gradient_learner(
            made_model(), over_tasks, head_init=HEAD_INITS["zero"], meta_gradient=APPROXIMATE["displacement"]
        )
        _, gradient = meta_gradient(learner, made_tasks())
        assert {n for n, g in gradient.items() if not g.any()} == {"model.head.weight", "model.head.bias"}


def test_displacement_refuses_what_it_cannot_learn_before_training() -> None:
    member = APPROXIMATE["displacement"]
    with pytest.raises(UserError, match="rule"):
        gradient_learner(made_model(), Loop(), meta_gradient=member, rule=RULES["rate per tensor"])
    with pytest.raises(UserError, match="objective"):
        gradient_learner(made_model(), Loop(), meta_gradient=member, objective=OBJECTIVES["weighted sum"])


def test_exact_and_first_order_differ_here() -> None:
    """Else the tests above would pass with inner gradients detached everywhere."""
    tasks = made_tasks()
    exact = meta_gradient(gradient_learner(made_model(), Loop()), tasks)[1]
    first = meta_gradient(gradient_learner(made_model(), Loop(), meta_gradient=APPROXIMATE["first order"]), tasks)[1]
    assert distance(first, exact) > 1e-2


def test_the_loss_is_the_mean_of_the_objective_over_tasks() -> None:
    tasks = made_tasks()
    learner = gradient_learner(made_model(), Loop(), objective=OBJECTIVES["weighted sum, given"])
    for member in EXACT.values():
        learner.meta_gradient = member
        outcome = learner.meta_loss(tasks)
        assert outcome.per_step.shape == (3, 2)
        assert outcome.query_logits.shape == (3, 2 * WAYS, WAYS)
        assert outcome.loss.item() == pytest.approx((outcome.per_step @ torch.tensor([0.2, 0.8]).double()).mean().item())
        curve = learner.adapt(tasks.support).curve(tasks.query.x)
        losses = F.cross_entropy(curve.flatten(0, 2), tasks.query.y.expand(3, 3, -1).flatten(), reduction="none").view(3, 3, -1)
        torch.testing.assert_close(outcome.per_step, losses.mean(-1)[1:].T)
        torch.testing.assert_close(outcome.query_logits, curve[-1])
