"""Compositions of the contract tests: small learners, and which choices are refused together."""

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

EQUAL = 1e-9  # between ways to compute the same sum
SMALL = "optimisee"  # six smooth units: finite differences are good, and whole products of choices affordable
MEMBERS = {**EXACT, **APPROXIMATE}
# What adapts from a fixed start has no displacement.
STARTLESS = [adapted for name, adapted in ADAPTED.items() if name.startswith("context")]


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


def startless(member: str, **choices: object) -> bool:
    """Whether the composition is one that learns a start where there is none; if so, it is seen to be refused."""
    if member != "displacement" or choices.get("adapted") not in STARTLESS:
        return False
    with pytest.raises(UserError, match="has a fixed one"):
        small_learner(meta_gradient=MEMBERS[member], **choices)
    return True


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
