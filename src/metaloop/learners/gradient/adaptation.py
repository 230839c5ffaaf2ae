"""Adapting stacked tasks without a meta-gradient, as validation and test do."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.problem import InnerProblem
from metaloop.learners.gradient.constant_part import ConstantPart
from metaloop.learners.learner import Answer, Predictor
from metaloop.types import Examples, Inputs, Params, Queries

if TYPE_CHECKING:  # it imports this module
    from metaloop.learners.gradient.gradient_learner import GradientTask

_POINTS = 11  # of the adaptation curve: each holds the adapted parameters of every task at once


def curve_steps(steps: int) -> tuple[int, ...]:
    """The inner steps that the adaptation curve shows: all up to ten, else eleven from 0 to ``steps``, evenly spaced."""
    last = min(steps, _POINTS - 1)
    return tuple(point * steps // last for point in range(last + 1))


def adapt(
    task: "GradientTask", problem: InnerProblem, meta: Params, support: Examples, steps: int, over_tasks: OverTasks
) -> Predictor:
    """Take ``steps`` inner steps on stacked tasks' support sets.

    Where only the head adapts, on features that no step changes, the body runs once for the support set and once for the
    queries; so does whatever else of it does not adapt and comes before all that does, where the model tells.

    Args:
        task: start and losses.
        problem: how it adapts.
        meta: all meta-parameters, without a graph.
        support: (tasks, examples, ...).
        steps: inner steps.
        over_tasks: how per-task functions are run.
    """
    shown = curve_steps(steps)
    support = _constant(task).examples(support)
    head = task.on_features()
    used = replace(problem, task=head or task)

    def adapted(examples: Examples, autodiff: Autodiff) -> dict[int, Params]:
        if head:
            examples = replace(examples, x=task.features(meta, examples))
        walk = used.walk(meta, examples, range(steps), autodiff, exact_from=steps)
        return {step: dict(params) for step, (params, _) in enumerate(walk) if step in shown}

    with torch.no_grad():
        path = over_tasks.map(adapted, support)
    return _predictor(task, meta, support, path, over_tasks)


def adapted_before(
    task: "GradientTask", meta: Params, support: Examples, adapted: Params, steps: int, over_tasks: OverTasks
) -> Predictor:
    """What :func:`adapt` gave, from the parameters ``adapted`` (tasks, ...) that its last step left, the only iterate."""
    support = _constant(task).examples(support)
    return _predictor(task, meta, support, {steps: dict(adapted)}, over_tasks)


def _constant(task: "GradientTask") -> ConstantPart:
    return ConstantPart(task.model.module, task.adapted, task.augmentation)


def _predictor(
    task: "GradientTask", meta: Params, support: Examples, path: Mapping[int, Params], over_tasks: OverTasks
) -> Predictor:
    """From the adapted parameters after some steps, the last ones last."""
    head, constant = task.on_features(), _constant(task)
    answers = [_answer(head or task, meta, support, params, over_tasks) for params in path.values()]
    features = _query_features(task, meta, support, over_tasks) if head else None

    def prepare(x: Inputs, mask: Tensor | None) -> Inputs:
        x = constant.inputs(x)
        return x if features is None else features(x, mask)

    return Predictor(answers, tuple(path), prepare if head or constant.call else None, path[max(path)])


def _answer(task: "GradientTask", meta: Params, support: Examples, params: Params, over_tasks: OverTasks) -> Answer:
    def one(of_task: tuple[Examples, Params, Queries], autodiff: Autodiff) -> Tensor:
        own, at, queries = of_task
        return task.answer(meta, at, own, queries.x, queries.mask)

    def answer(x: Inputs, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return over_tasks.map(one, (support, params, Queries(x, mask)))

    return answer


def _query_features(task: "GradientTask", meta: Params, support: Examples, over_tasks: OverTasks) -> Answer:
    def one(of_task: tuple[Examples, Queries], autodiff: Autodiff) -> Tensor:
        own, queries = of_task
        return task.query_features(meta, own, queries.x, queries.mask)

    def prepare(x: Inputs, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return over_tasks.map(one, (support, Queries(x, mask)))

    return prepare
