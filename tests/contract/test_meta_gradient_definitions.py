"""Meta-gradients equal their definitions in float64: explicit backpropagation, and a closed form."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from compositions import EQUAL, MEMBERS, SMALL, by_hand, refusal, small_learner, startless
from made_tasks import distance, made_model, made_tasks, meta_gradient
from members import ADAPTED, APPROXIMATE, EXACT, HEAD_INITS, OBJECTIVES, RULES, TASK_LOSSES, gradient_learner
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.meta_gradients.by_part import ByPart
from metaloop.inner.meta_gradients.meta_gradient import Displacement
from metaloop.inner.meta_gradients.truncated import Windows
from metaloop.inner.selection.warp import Warped
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.types import Examples, Params, Tasks
from pairwise import covering

BY_HAND = {
    "unrolled": {"constant": ()},
    "first order": {"constant": (0, 1)},
    "annealed, before": {"constant": (0, 1)},
    "truncated": {"constant": (0,)},
    "windows": {"constant": (), "cut": (1,)},
    "windows, first order": {"constant": (0, 1), "cut": (1,)},
}


@covering(
    ("adapted", "rule", "member", "objective"),
    ADAPTED,
    RULES,
    BY_HAND,
    ["last step", "weighted sum, given"],
    allowed=lambda adapted, rule, member, objective: not refusal(member, rule, objective),
)
def test_approximate_ones_equal_their_definitions(adapted: str, rule: str, member: str, objective: str) -> None:
    tasks = made_tasks(SMALL, tasks=2)
    learner = small_learner(
        adapted=ADAPTED[adapted], rule=RULES[rule], objective=OBJECTIVES[objective], meta_gradient=MEMBERS[member]
    )
    _, gradient = meta_gradient(learner, tasks)
    assert distance(gradient, by_hand(learner, tasks, **BY_HAND[member])) < EQUAL


def test_the_definitions_differ_here() -> None:
    """Otherwise the test above would pass with inner gradients detached everywhere, or nowhere."""
    tasks = made_tasks(SMALL, tasks=2)
    learner = small_learner(rule=RULES["rate per tensor"], objective=OBJECTIVES["weighted sum, given"])
    definitions = [each for name, each in BY_HAND.items() if name != "annealed, before"]
    found = [by_hand(learner, tasks, **definition) for definition in definitions]
    for i, left in enumerate(found):
        for right in found[:i]:
            assert distance(left, right) > 1e-3


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("adapted", ADAPTED)
def test_displacement_is_start_minus_adapted(adapted: str, over_tasks: OverTasks) -> None:
    tasks = made_tasks(SMALL, tasks=2)
    for rule in RULES:
        if refusal("displacement", rule, "last step") or startless("displacement", adapted=ADAPTED[adapted], rule=RULES[rule]):
            continue
        learner = small_learner(
            over_tasks, adapted=ADAPTED[adapted], rule=RULES[rule], meta_gradient=APPROXIMATE["displacement"]
        )
        _, gradient = meta_gradient(learner, tasks)
        expected = {name: torch.zeros_like(p) for name, p in learner.named_parameters()}
        for i in range(len(tasks)):
            start, end = ends_by_hand(learner, tasks.map(lambda t, i=i: t[i]))
            for name, value in start.items():
                if "model." + name in learner.meta_parameters():
                    expected["model." + name] += (value - end[name]) / len(tasks)
        assert any(value.any() for value in expected.values())
        for name, value in expected.items():
            torch.testing.assert_close(gradient[name].to(value).expand_as(value), value, rtol=EQUAL, atol=1e-12)


def ends_by_hand(learner: GradientLearner, task: Tasks) -> tuple[Params, Params]:
    """Compute the start of one task and the parameters after two steps."""
    meta = {name: value.detach() for name, value in learner.meta_parameters().items()}
    params = start = learner.problem.task.start(meta, task.support)
    state = learner.rule.init(params)
    for step in range(2):
        at = {n: v.clone().requires_grad_() for n, v in params.items()}
        loss = learner.problem.inner_loss(meta, at, task.support, step)
        slopes = dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))
        params, state = learner.rule.step(slopes, state, params, step, loss.detach())
    return start, params


def path_by_hand(learner: GradientLearner, task: Tasks, steps: int) -> list[Params]:
    """Take inner steps of plain descent at 0.1 on the support loss, and return all iterates as constants."""
    meta = {name: value.detach() for name, value in learner.meta_parameters().items()}
    path = [learner.problem.task.start(meta, task.support)]
    for step in range(steps):
        at = {n: v.clone().requires_grad_() for n, v in path[-1].items()}
        loss = learner.problem.inner_loss(meta, at, task.support, step)
        slopes = torch.autograd.grad(loss, list(at.values()))
        path.append({n: v.detach() - 0.1 * g for (n, v), g in zip(at.items(), slopes, strict=True)})
    return path


def warp_objective(learner: GradientLearner, meta: Params, task: Tasks, path: list[Params], *, exact: bool) -> Tensor:
    """WarpGrad's loss of the warps: the mean query loss one step after each constant point of the trajectory (eq. 9)."""
    losses = []
    for step, point in enumerate(path[:-1]):
        at = {n: v.clone().requires_grad_() for n, v in point.items()}
        loss = learner.problem.inner_loss(meta, at, task.support, step)
        slopes = torch.autograd.grad(loss, list(at.values()), create_graph=exact)
        after = {n: v - 0.1 * g for (n, v), g in zip(at.items(), slopes, strict=True)}
        losses.append(learner.problem.task.query_loss(meta, after, task.support, task.query, step + 1)[0])
    return torch.stack(losses).mean()


def warp_learner(over_tasks: OverTasks, *, exact: bool) -> GradientLearner:
    member = ByPart(Displacement(unit_steps=True), Windows(length=1, second_order=exact))
    choices = {"adapted": Warped(), "objective": OBJECTIVES["weighted sum"], "meta_gradient": member, "steps": 3}
    learner = small_learner(over_tasks, **choices)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():  # away from the identity
        for name, value in learner.model.named_parameters():
            if ".warp." in name:
                value.add_(0.3 * torch.randn(value.shape, generator=random, dtype=value.dtype))
    return learner


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "approximate"])
def test_C2_warpgrad_is_its_trajectory_objective(exact: bool, over_tasks: OverTasks) -> None:
    """Warps: gradients of the objective with constant points. Start: the trajectory's unit steps (Leap)."""
    tasks, learner = made_tasks(SMALL, tasks=2), warp_learner(over_tasks, exact=exact)
    loss, gradient = meta_gradient(learner, tasks)
    meta = {n: v.detach().requires_grad_() for n, v in learner.meta_parameters().items()}
    warps = [name for name in meta if ".warp." in name]
    each = [tasks.map(lambda t, i=i: t[i]) for i in range(2)]
    paths = [path_by_hand(learner, task, 3) for task in each]
    total = sum(warp_objective(learner, meta, *pair, exact=exact) for pair in zip(each, paths, strict=True)) / 2
    assert loss.item() == pytest.approx(total.item())
    expected = torch.autograd.grad(total, [meta[name] for name in warps])
    assert len(warps) > 0
    for name, value in zip(warps, expected, strict=True):
        torch.testing.assert_close(gradient[name], value, rtol=EQUAL, atol=1e-12)
    for name in paths[0][0]:
        value = torch.zeros(())
        for path in paths:
            for before, after in pairwise(path):
                length = torch.stack([((before[n] - after[n]) ** 2).sum() for n in before]).sum().sqrt()
                value = value + (before[name] - after[name]) / length / 2
        torch.testing.assert_close(gradient["model." + name], value, rtol=1e-6, atol=1e-9)


def test_C2_warpgrads_warps_descend_the_objective_of_finite_differences() -> None:
    tasks, learner = made_tasks(SMALL, tasks=1), warp_learner(Loop(), exact=True)
    _, gradient = meta_gradient(learner, tasks)
    task = tasks.map(lambda t: t[0])
    path = path_by_hand(learner, task, 3)
    meta = {n: v.detach() for n, v in learner.meta_parameters().items()}
    random = torch.Generator().manual_seed(3)
    way = {n: torch.randn(v.shape, generator=random, dtype=v.dtype) for n, v in meta.items() if ".warp." in n}

    def value(size: float) -> float:
        moved = {n: v + size * way[n] if n in way else v for n, v in meta.items()}
        return warp_objective(learner, moved, task, path, exact=True).item()

    slope = sum(float((gradient[n] * v).sum()) for n, v in way.items())
    assert (value(1e-5) - value(-1e-5)) / 2e-5 == pytest.approx(slope, rel=1e-6)


def test_C2_no_derivative_of_warps_crosses_the_trajectory() -> None:
    """Unrolling gives another gradient, so the tests above tell the two apart."""
    tasks, learner = made_tasks(SMALL, tasks=2), warp_learner(Loop(), exact=True)
    _, along = meta_gradient(learner, tasks)
    other = warp_learner(Loop(), exact=True)
    other.meta_gradient = EXACT["unrolled"]
    _, unrolled = meta_gradient(other, tasks)
    assert distance({n: along[n] for n in along if ".warp." in n}, {n: unrolled[n] for n in along if ".warp." in n}) > 1e-3


def test_displacement_leaves_a_head_alone_that_starts_elsewhere() -> None:
    for over_tasks in (Loop(), Vmap()):
        learner = gradient_learner(
            made_model(), over_tasks, head_init=HEAD_INITS["zero"], meta_gradient=APPROXIMATE["displacement"]
        )
        _, gradient = meta_gradient(learner, made_tasks())
        assert {n for n, g in gradient.items() if not g.any()} == {"model.head.weight", "model.head.bias"}


class Quadratic(nn.Module):
    """A model that answers its parameter, so that the squared error is a quadratic function of it."""

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
        "annealed, after": k**n * (adapted - query[:, 0]),
        "truncated, all steps": k ** min(n, 2) * (adapted - query[:, 0]),
        "truncated": k * (adapted - query[:, 0]),
        "first order": adapted - query[:, 0],
        "displacement": start - adapted,
        "nothing": torch.zeros(2, 2),
    }
    for name in expected:
        learner = gradient_learner(
            Quadratic(), over_tasks, loss=TASK_LOSSES["mean squared error"], meta_gradient=MEMBERS[name], steps=steps
        )
        loss, gradient = meta_gradient(learner, tasks)
        assert loss.item() == pytest.approx(((adapted - query[:, 0]) ** 2).mean().item())
        torch.testing.assert_close(gradient["model.point"], expected[name].to(start).mean(0))


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
