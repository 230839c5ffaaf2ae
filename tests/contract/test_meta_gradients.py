"""Meta-gradients against oracles: finite differences, definitions written out by hand, a closed form. All in float64."""

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
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
SIZES = (1e-6, 1e-7, 3e-8, 3e-9)
EQUAL = 1e-9  # between ways to compute the same sum
SMALL = "optimisee"  # six smooth units: finite differences are good, and whole products of choices affordable
MEMBERS = {**EXACT, **APPROXIMATE}
# Parameters whose meta-gradient is not the derivative of the outer loss, by design: a straight-through estimate.
ESTIMATED = re.compile(r"scores")
# Where the outer loss jumps, and finite differences say nothing: an adapter's first gradient is exactly zero in one factor,
# and its sign turns with the slightest move. These are compared with backpropagation written out by hand.
JUMPS = {("low rank", "sign descent")}
# What adapts from a fixed start has no displacement.
STARTLESS = [adapted for name, adapted in ADAPTED.items() if name.startswith("context")]

Make = Callable[..., GradientLearner]


def learned(learner: GradientLearner) -> Params:
    """The meta-parameters that finite differences can check."""
    return {n: p for n, p in learner.meta_parameters().items() if not ESTIMATED.search(n)}


def check_against_finite_differences(make: Make, tasks: Tasks) -> None:
    """The unrolled loop along a random direction of all meta-parameters; each other exact way equals it as a whole vector."""
    reference = check_unrolled(make, tasks)
    for exact, over_tasks in product(EXACT.values(), (Loop(), Vmap())):
        _, gradient = meta_gradient(make(over_tasks, meta_gradient=exact), tasks)
        assert distance(gradient, reference) < EQUAL


def check_unrolled(make: Make, tasks: Tasks) -> Params:
    """The unrolled loop against finite differences along a random direction; its gradient."""
    learner = make(Loop(), meta_gradient=EXACT["unrolled"])
    parameters = learned(learner)
    direction = random_direction(parameters, seed=0)

    def value() -> float:
        with torch.no_grad():
            return learner.meta_loss(tasks).loss.item()

    _, reference = meta_gradient(learner, tasks)
    # A ReLU may have its kink between the two ends of a difference; a wrong gradient agrees at no size.
    slope = along({name: reference[name] for name in parameters}, direction)
    found = [slope, *(central_difference(value, parameters, direction, s) for s in SIZES[:1])]
    for size in SIZES[1:]:
        if found[-1] != pytest.approx(found[0], rel=RELATIVE):
            found.append(central_difference(value, parameters, direction, size))
    assert found[-1] == pytest.approx(found[0], rel=RELATIVE), found
    return reference


def small_learner(over_tasks: OverTasks | None = None, **choices: object) -> GradientLearner:
    return gradient_learner(made_model(SMALL), over_tasks or Loop(), **choices)


@cache
def has_parameters(rule: str) -> bool:
    return any(True for _ in RULES[rule](dict(made_model(SMALL).named_parameters())).parameters())


def refusal(member: str, rule: str, objective: str, *, proximal: float = 0.0, outer_step: int = 0) -> str | None:
    """What the error says where a meta-gradient does not go with the rest; None where it does.

    Every ``adapted`` goes with every meta-gradient.
    """
    weights = OBJECTIVES[objective].weights(2, outer_step)
    kind = member.partition(",")[0]
    if kind in ("displacement", "implicit") and has_parameters(rule):
        return rf"algorithm\.meta_gradient={kind} cannot learn the rule's parameters.*algorithm/rule"
    if kind == "implicit" and not proximal:
        return r"algorithm\.proximal=0\.0: .* above 0"
    if kind in ("displacement", "implicit") and weights[-1] != 1:
        return r"algorithm/objective=last_step"
    if member in ("windows", "windows, first order") and not has_parameters(rule) and not any(weights[:2]):
        return r"algorithm\.meta_gradient=windows .* algorithm/objective=weighted_sum or algorithm\.meta_gradient\.length"
    return None


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("adapted", ADAPTED)
def test_every_exact_composition_equals_finite_differences(adapted: str, rule: str) -> None:
    tasks = made_tasks(SMALL, tasks=1)
    for objective in OBJECTIVES.values():

        def make(over_tasks: OverTasks, objective: object = objective, **choices: object) -> GradientLearner:
            return small_learner(over_tasks, adapted=ADAPTED[adapted], rule=RULES[rule], objective=objective, **choices)

        jumps = (adapted, rule) in JUMPS
        reference = by_hand(make(Loop()), tasks, constant=()) if jumps else check_unrolled(make, tasks)
        for exact in EXACT.values():
            assert distance(meta_gradient(make(Loop(), meta_gradient=exact), tasks)[1], reference) < EQUAL


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("adapted", ADAPTED)
def test_every_composition_is_accepted_or_refused_with_the_reason(adapted: str, rule: str) -> None:
    learner = small_learner(adapted=ADAPTED[adapted], rule=RULES[rule])
    for member, objective, proximal in product(MEMBERS, OBJECTIVES, (0.0, 2.0)):
        problem = replace(learner.problem, weights=OBJECTIVES[objective].weights(2, 0), proximal=proximal)
        said = refusal(member, rule, objective, proximal=proximal)
        if said is None:
            MEMBERS[member].check(problem)
            continue
        with pytest.raises(UserError, match=said):
            MEMBERS[member].check(problem)


@pytest.mark.parametrize("member", MEMBERS)
def test_learners_are_refused_when_they_are_built(member: str) -> None:
    for rule, objective in product(("gradient descent", "rate per tensor"), OBJECTIVES):
        choices = {"rule": RULES[rule], "objective": OBJECTIVES[objective], "meta_gradient": MEMBERS[member]}
        # Objectives change on the way; what would be refused in the end is refused at once.
        said = refusal(member, rule, objective) or refusal(member, rule, objective, outer_step=10**9)
        if said is None:
            small_learner(**choices)
            continue
        with pytest.raises(UserError, match=said):
            small_learner(**choices)


def test_some_compositions_are_refused() -> None:
    refused = [
        member
        for member, rule, objective in product(MEMBERS, RULES, OBJECTIVES)
        if refusal(member, rule, objective, proximal=1)
    ]
    kinds = {"displacement", "windows", "windows, first order", "implicit, conjugate gradient", "implicit, neumann"}
    assert set(refused) == kinds
    assert len(refused) < len(MEMBERS) * len(RULES) * len(OBJECTIVES) / 4


def startless(member: str, **choices: object) -> bool:
    """Whether the composition is one that learns a start where there is none; if so, it is seen to be refused."""
    if member != "displacement" or choices.get("adapted") not in STARTLESS:
        return False
    with pytest.raises(UserError, match="has a fixed one"):
        small_learner(meta_gradient=MEMBERS[member], **choices)
    return True


def check_strategies_agree(member: str, tasks: Tasks, **choices: object) -> None:
    if startless(member, **choices):
        return
    gradients, outcomes = [], []
    for over_tasks in (Loop(), Vmap()):
        learner = small_learner(over_tasks, meta_gradient=MEMBERS[member], proximal=2.0, **choices)
        outcomes.append(learner.meta_loss(tasks))
        gradients.append(meta_gradient(learner, tasks)[1])
    assert any(value.any() for value in gradients[0].values()) is (member != "nothing")
    for gradient, outcome in zip(gradients[1:], outcomes[1:], strict=True):
        difference = {n: gradient[n] - value for n, value in gradients[0].items()}
        size = max(float(value.abs().max()) for value in gradients[0].values())
        assert max(float(value.abs().max()) for value in difference.values()) <= EQUAL * size
        for field in ("loss", "query_logits", "per_step"):
            torch.testing.assert_close(getattr(outcome, field), getattr(outcomes[0], field), rtol=EQUAL, atol=EQUAL)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("rule", RULES)
def test_strategies_agree_for_every_rule(rule: str, member: str) -> None:
    objective = "last step" if refusal(member, rule, "weighted sum, given", proximal=2.0) else "weighted sum, given"
    if refusal(member, rule, objective, proximal=2.0):
        return  # a composition that is refused, as tested above
    check_strategies_agree(member, made_tasks(SMALL, tasks=2), rule=RULES[rule], objective=OBJECTIVES[objective])


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("adapted", ADAPTED)
def test_strategies_agree_for_all_that_adapts(adapted: str, member: str) -> None:
    on_the_way = "weighted sum, given" if member.startswith("windows") else "annealed, on the way"
    objective = "last step" if refusal(member, "momentum", on_the_way, proximal=2.0) else on_the_way
    check_strategies_agree(
        member,
        made_tasks(SMALL, tasks=2),
        adapted=ADAPTED[adapted],
        rule=RULES["momentum"],
        objective=OBJECTIVES[objective],
    )


@pytest.mark.parametrize("member", MEMBERS)
def test_every_one_is_traced_once_for_all_outer_steps(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that would be compiled computes the loop's gradient; the compiler itself is tested elsewhere."""
    graphs: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graphs.append(graph) or graph)
    tasks = made_tasks(SMALL, tasks=2)
    objective = OBJECTIVES["last step" if refusal(member, "momentum", "weighted sum", proximal=2.0) else "weighted sum"]
    choices = {"meta_gradient": MEMBERS[member], "objective": objective, "proximal": 2.0}
    compiled, looped = small_learner(Vmap(compiled=True), **choices), small_learner(**choices)
    expected = meta_gradient(looped, tasks)[1]
    for compiled.outer_step in (0, 1):
        gradient = meta_gradient(compiled, tasks)[1]
        for name, value in expected.items():
            torch.testing.assert_close(gradient[name], value, rtol=EQUAL, atol=1e-12)
    assert len(graphs) == (2 if "evolution" in member else 1)  # and one for the unperturbed loss


def by_hand(
    learner: GradientLearner, tasks: Tasks, *, constant: Collection[int], cut: Collection[int] = ()
) -> dict[str, Tensor]:
    """The meta-gradient of plain autograd, written out.

    Args:
        learner: its start, losses and rule.
        tasks: a meta-batch.
        constant: steps whose gradient is a constant.
        cut: steps that take the iterate and the rule's state for constants.
    """
    learner.zero_grad()
    meta, problem = dict(learner.meta_parameters()), learner.problem
    total = torch.zeros(())
    for i in range(len(tasks)):
        task = tasks.map(lambda t, i=i: t[i])
        params = problem.task.start(meta, task.support)
        state = learner.rule.init(params)
        for step, weight in enumerate(problem.weights):
            total = total + weight * problem.task.query_loss(meta, params, task.support, task.query)[0] / len(tasks)
            if step == problem.steps:
                break
            if step in cut:
                params, state = ({n: v.detach() for n, v in part.items()} for part in (params, state))
            at = {n: v if v.requires_grad else v.clone().requires_grad_() for n, v in params.items()}
            loss = problem.inner_loss(meta, at, task.support, step)
            slopes = torch.autograd.grad(loss, list(at.values()), create_graph=True, materialize_grads=True, allow_unused=True)
            if step in constant:
                loss, slopes = loss.detach(), [slope.detach() for slope in slopes]
            params, state = learner.rule.step(dict(zip(at, slopes, strict=True)), state, params, step, loss)
    total.backward()
    zero = torch.zeros(())
    return {n: zero if p.grad is None else p.grad.clone() for n, p in learner.named_parameters()}


BY_HAND = {
    "unrolled": {"constant": ()},
    "first order": {"constant": (0, 1)},
    "annealed, before": {"constant": (0, 1)},
    "truncated": {"constant": (0,)},
    "windows": {"constant": (), "cut": (1,)},
    "windows, first order": {"constant": (0, 1), "cut": (1,)},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("adapted", ADAPTED)
def test_approximate_ones_equal_their_definitions(adapted: str, rule: str) -> None:
    tasks = made_tasks(SMALL, tasks=2)
    for (member, definition), objective in product(BY_HAND.items(), ("last step", "weighted sum, given")):
        if refusal(member, rule, objective):
            continue
        learner = small_learner(
            adapted=ADAPTED[adapted], rule=RULES[rule], objective=OBJECTIVES[objective], meta_gradient=MEMBERS[member]
        )
        _, gradient = meta_gradient(learner, tasks)
        assert distance(gradient, by_hand(learner, tasks, **definition)) < EQUAL, (member, objective)


def test_the_definitions_differ_here() -> None:
    """Else the test above would pass with inner gradients detached everywhere, or nowhere."""
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
    """The start of one task and where two steps lead."""
    meta = {name: value.detach() for name, value in learner.meta_parameters().items()}
    params = start = learner.problem.task.start(meta, task.support)
    state = learner.rule.init(params)
    for step in range(2):
        at = {n: v.clone().requires_grad_() for n, v in params.items()}
        loss = learner.problem.inner_loss(meta, at, task.support, step)
        slopes = dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))
        params, state = learner.rule.step(slopes, state, params, step, loss.detach())
    return start, params


def test_displacement_leaves_a_head_alone_that_starts_elsewhere() -> None:
    for over_tasks in (Loop(), Vmap()):
        learner = gradient_learner(
            made_model(), over_tasks, head_init=HEAD_INITS["zero"], meta_gradient=APPROXIMATE["displacement"]
        )
        _, gradient = meta_gradient(learner, made_tasks())
        assert {n for n, g in gradient.items() if not g.any()} == {"model.head.weight", "model.head.bias"}


@pytest.mark.parametrize("norm", MODES)
@pytest.mark.parametrize("adapted", ADAPTED)
def test_exact_ones_through_norms(adapted: str, norm: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        model, rule = made_model(norm=norm), RULES["rate per element"]
        return gradient_learner(model, over_tasks, adapted=ADAPTED[adapted], rule=rule, **choices)

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
        start, rule = HEAD_INITS[head_init], RULES["rate per tensor"]  # which is all that a fresh start leaves to learn
        return gradient_learner(made_model("mlp"), over_tasks, head_init=start, rule=rule, inner_batch=inner_batch, **choices)

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
