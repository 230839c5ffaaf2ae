"""Small learners for the contract tests, and the combinations of choices that are refused."""

from collections.abc import Collection
from functools import cache

import pytest
import torch
from made_tasks import made_model
from members import ADAPTED, APPROXIMATE, EXACT, OBJECTIVES, RULES, gradient_learner
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.types import Tasks

EQUAL = 1e-9  # tolerance between two ways to compute the same sum
SMALL = "optimisee"  # six smooth units: accurate finite differences, and cheap enough for products of choices
MEMBERS = {**EXACT, **APPROXIMATE}
# Choices whose adapted parameters have a fixed start, which displacement cannot learn.
STARTLESS = [adapted for name, adapted in ADAPTED.items() if name.startswith("context")]


def small_learner(over_tasks: OverTasks | None = None, **choices: object) -> GradientLearner:
    return gradient_learner(made_model(SMALL), over_tasks or Loop(), **choices)


@cache
def has_parameters(rule: str) -> bool:
    return any(True for _ in RULES[rule](dict(made_model(SMALL).named_parameters())).parameters())


def refusal(member: str, rule: str, objective: str, *, proximal: float = 0.0, outer_step: int = 0) -> str | None:
    """Return the expected error if a meta-gradient does not fit the other choices; None if it does.

    Every ``adapted`` fits every meta-gradient.
    """
    weights = OBJECTIVES[objective].weights(2, outer_step)
    kind = member.partition(",")[0]
    if kind in ("displacement", "implicit") and has_parameters(rule):
        return rf"algorithm\.meta_gradient={kind} cannot learn the rule's parameters.*algorithm/rule"
    if kind == "implicit" and not proximal:
        return r"algorithm\.proximal=0\.0: .* above 0"
    if kind in ("displacement", "implicit") and weights[-1] != 1:
        return r"algorithm/objective=last_step"
    if member in ("windows", "windows, first order", "by part") and not has_parameters(rule) and not any(weights[:2]):
        return r"algorithm\.meta_gradient=windows .* algorithm/objective=weighted_sum or algorithm\.meta_gradient\.length"
    return None


def startless(member: str, **choices: object) -> bool:
    """Whether displacement is combined with a fixed start; if so, assert that this is refused."""
    if member.partition(",")[0] != "displacement" or choices.get("adapted") not in STARTLESS:
        return False
    with pytest.raises(UserError, match="has a fixed one"):
        small_learner(meta_gradient=MEMBERS[member], **choices)
    return True


def by_hand(
    learner: GradientLearner, tasks: Tasks, *, constant: Collection[int], cut: Collection[int] = ()
) -> dict[str, Tensor]:
    """Compute the meta-gradient by plain autograd, as a reference.

    Args:
        learner: the learner, for its start, losses and rule.
        tasks: a meta-batch.
        constant: inner steps whose gradient is treated as a constant.
        cut: inner steps before which the iterate and the rule's state are detached.
    """
    learner.zero_grad()
    meta, problem = dict(learner.meta_parameters()), learner.problem
    total = torch.zeros(())
    for i in range(len(tasks)):
        task = tasks.map(lambda t, i=i: t[i])
        params = problem.task.start(meta, task.support)
        state = learner.rule.init(params)
        for step, weight in enumerate(problem.weights):
            total = total + weight * problem.task.query_loss(meta, params, task.support, task.query, step)[0] / len(tasks)
            if step == problem.steps:
                break
            if step in cut:
                params, state = ({n: v.detach() for n, v in part.items()} for part in (params, state))
            at = {n: v if v.requires_grad else v.clone().requires_grad_() for n, v in params.items()}
            loss = problem.inner_loss(meta, at, task.support, step)
            gradients = torch.autograd.grad(
                loss, list(at.values()), create_graph=True, materialize_grads=True, allow_unused=True
            )
            if step in constant:
                loss, gradients = loss.detach(), [gradient.detach() for gradient in gradients]
            params, state = learner.rule.step(dict(zip(at, gradients, strict=True)), state, params, step, loss)
    total.backward()
    zero = torch.zeros(())
    return {n: zero if p.grad is None else p.grad.clone() for n, p in learner.named_parameters()}
