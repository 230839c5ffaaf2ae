"""Meta-gradients equal oracles in float64: finite differences, explicit backpropagation, and a closed form."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from compositions import EQUAL, MEMBERS, SMALL, by_hand, refusal, small_learner, startless
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
from members import ADAPTED, EXACT, HEAD_INITS, MODELS, OBJECTIVES, RULES, TASK_LOSSES, gradient_learner

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.models.norm import MODES
from metaloop.types import Examples, Params, Tasks
from pairwise import Row, covering, each_once

RELATIVE = 1e-6
SIZES = (1e-6, 1e-7, 3e-8, 3e-9)
# Parameters whose meta-gradient is not the derivative of the outer loss, by design: a straight-through estimate.
ESTIMATED = re.compile(r"scores")
# Choices for which the outer loss is discontinuous, so that finite differences do not apply: an adapter's first gradient is
# exactly zero in one factor, and its sign changes with the smallest move. They are compared with explicit backpropagation.
JUMPS = {("low rank", "sign descent")}

Make = Callable[..., GradientLearner]


def learned(learner: GradientLearner) -> Params:
    """Select the meta-parameters that finite differences can check."""
    return {n: p for n, p in learner.meta_parameters().items() if not ESTIMATED.search(n)}


def check_against_finite_differences(make: Make, tasks: Tasks, exact: str) -> None:
    """Check the unrolled loop along a random direction, and that an exact method gives the same vector in both strategies."""
    reference = check_unrolled(make, tasks)
    for over_tasks in (Loop(), Vmap()):
        if (exact, over_tasks.name) != ("unrolled", "loop"):  # the reference
            _, gradient = meta_gradient(make(over_tasks, meta_gradient=EXACT[exact]), tasks)
            assert distance(gradient, reference) < EQUAL


def check_unrolled(make: Make, tasks: Tasks) -> Params:
    """Check the unrolled loop against finite differences along a random direction, and return its gradient."""
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


@covering(("adapted", "rule", "objective"), ADAPTED, RULES, OBJECTIVES)
def test_every_exact_composition_equals_finite_differences(adapted: str, rule: str, objective: str) -> None:
    tasks = made_tasks(SMALL, tasks=1)
    members = {"adapted": ADAPTED[adapted], "rule": RULES[rule], "objective": OBJECTIVES[objective]}

    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return small_learner(over_tasks, **members, **choices)

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
        # Objectives may change in training; what they would refuse later is refused at the start.
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
    kinds = {"displacement", "displacement, unit steps", "windows", "windows, first order", "by part"}
    kinds |= {"implicit, conjugate gradient", "implicit, neumann"}
    assert set(refused) == kinds
    assert len(refused) < len(MEMBERS) * len(RULES) * len(OBJECTIVES) / 4


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


def first_objective(member: str, rule: str) -> str | None:
    """Choose an objective that fits both; None if they are refused together, which is tested above."""
    fitting = (o for o in ("weighted sum, given", "last step") if not refusal(member, rule, o, proximal=2.0))
    return next(fitting, None)


@covering(("member", "rule"), MEMBERS, RULES, select=each_once, allowed=first_objective)
def test_strategies_agree_for_every_rule(member: str, rule: str) -> None:
    objective = first_objective(member, rule)
    check_strategies_agree(member, made_tasks(SMALL, tasks=2), rule=RULES[rule], objective=OBJECTIVES[objective])


@covering(("member", "adapted"), MEMBERS, ADAPTED, select=each_once)
def test_strategies_agree_for_all_that_adapts(member: str, adapted: str) -> None:
    on_the_way = "weighted sum, given" if member.startswith(("windows", "by part")) else "annealed, on the way"
    objective = "last step" if refusal(member, "momentum", on_the_way, proximal=2.0) else on_the_way
    check_strategies_agree(
        member,
        made_tasks(SMALL, tasks=2),
        adapted=ADAPTED[adapted],
        rule=RULES["momentum"],
        objective=OBJECTIVES[objective],
    )


def one_of_each_class(rows: Sequence[Row]) -> list[Row]:
    return list({type(MEMBERS[member]): (member,) for (member,) in rows}.values())


@covering(["member"], MEMBERS, select=one_of_each_class)
def test_every_one_is_traced_once_for_all_outer_steps(member: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that is compiled computes the gradient of the loop; the compiler itself is tested elsewhere."""
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
    assert len(graphs) == (2 if "evolution" in member or member == "by part" else 1)  # of the unperturbed loss, or of the start


@covering(("adapted", "norm", "exact"), ADAPTED, MODES, EXACT, select=each_once)
def test_exact_ones_through_norms(adapted: str, norm: str, exact: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        model, rule = made_model(norm=norm), RULES["rate per element"]
        return gradient_learner(model, over_tasks, adapted=ADAPTED[adapted], rule=rule, **choices)

    check_against_finite_differences(make, made_tasks(tasks=2), exact)


@covering(("objective", "exact", "norm", "masked"), OBJECTIVES, EXACT, ["batch", "support"], [False, True], select=each_once)
def test_exact_ones_with_masks_and_objectives(objective: str, exact: str, norm: str, masked: bool) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return gradient_learner(
            made_model(norm=norm),
            over_tasks,
            objective=OBJECTIVES[objective],
            rule=RULES["rate per element"],
            **choices,
        )

    check_against_finite_differences(make, made_tasks(tasks=2, masked=masked), exact)


# The library's vision transformer takes its softmax in float32; test_vision_encoder.py is coarser.
@covering(("model", "exact"), [name for name in MODELS if name != "vision"], EXACT, select=each_once)
def test_exact_ones_through_every_model(model: str, exact: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        return gradient_learner(made_model(model), over_tasks, **choices)

    check_against_finite_differences(make, made_tasks(model, tasks=2, masked=True), exact)


@covering(("head_init", "inner_batch", "exact"), HEAD_INITS, [None, 4], EXACT, select=each_once)
def test_exact_ones_from_every_head_start(head_init: str, inner_batch: int | None, exact: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        start, rule = HEAD_INITS[head_init], RULES["rate per tensor"]  # which is all that a fresh start leaves to learn
        return gradient_learner(made_model("mlp"), over_tasks, head_init=start, rule=rule, inner_batch=inner_batch, **choices)

    check_against_finite_differences(make, made_tasks("mlp", tasks=2), exact)


@pytest.mark.parametrize("exact", EXACT)
def test_exact_ones_for_regression(exact: str) -> None:
    def make(over_tasks: OverTasks, **choices: object) -> GradientLearner:
        model = made_model("mlp", outputs=1, norm="none")
        return gradient_learner(model, over_tasks, loss=TASK_LOSSES["mean squared error"], **choices)

    random = torch.Generator().manual_seed(0)

    def points() -> Examples:
        numbers = torch.randn(2, 4, 6, generator=random, dtype=torch.float64)
        return Examples(numbers[..., :5], numbers[..., 5:])

    check_against_finite_differences(make, Tasks(points(), points(), torch.arange(2)), exact)


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
