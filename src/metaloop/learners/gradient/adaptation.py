"""Adapt to stacked tasks without a meta-gradient, as validation and test do."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.problem import InnerProblem
from metaloop.learners.gradient.constant_part import ConstantPart
from metaloop.learners.gradient.gradient_task import GradientTask
from metaloop.learners.learner import Answer, Predictor
from metaloop.types import Examples, Inputs, Params, Queries

_POINTS = 11  # most points of the adaptation curve, since each keeps the adapted parameters of every task in memory


def curve_steps(steps: int) -> tuple[int, ...]:
    """Choose the inner steps of the adaptation curve: all if there are at most ten, otherwise eleven from 0 to ``steps``."""
    last = min(steps, _POINTS - 1)
    return tuple(point * steps // last for point in range(last + 1))


def adapt(
    task: GradientTask, problem: InnerProblem, meta: Params, support: Examples, steps: int, over_tasks: OverTasks
) -> Predictor:
    """Take ``steps`` inner steps on stacked tasks' support sets.

    If only the head adapts and no step changes its input, the body runs once for the support set and once for the queries. The
    same holds for the model's constant part, see :class:`~metaloop.learners.gradient.constant_part.ConstantPart`.

    Args:
        task: the start and losses of a task.
        problem: the inner problem: how parameters adapt.
        meta: all meta-parameters, without a graph.
        support: (tasks, examples, ...).
        steps: number of inner steps.
        over_tasks: how per-task functions are run.
    """
    kept_steps = curve_steps(steps)
    support = _constant(task).examples(support)
    head_task = task.on_features()
    inner_problem = replace(problem, task=head_task or task)

    def iterates(examples: Examples, autodiff: Autodiff) -> dict[int, Params]:
        if head_task:
            examples = replace(examples, x=task.features(meta, examples))
        walk = inner_problem.walk(meta, examples, range(steps), autodiff, exact_from=steps)
        return {step: dict(params) for step, (params, _) in enumerate(walk) if step in kept_steps}

    with torch.no_grad():
        parameters = over_tasks.map(iterates, support)
    return _predictor(task, meta, support, parameters, over_tasks)


def adapted_before(
    task: GradientTask, meta: Params, support: Examples, adapted: Params, steps: int, over_tasks: OverTasks
) -> Predictor:
    """Restore the predictor of :func:`adapt`, with its last iterate only, from the adapted parameters (tasks, ...)."""
    support = _constant(task).examples(support)
    return _predictor(task, meta, support, {steps: dict(adapted)}, over_tasks)


def _constant(task: GradientTask) -> ConstantPart:
    return ConstantPart(task.model.module, task.adapted, task.augmentation)


def _predictor(
    task: GradientTask, meta: Params, support: Examples, parameters: Mapping[int, Params], over_tasks: OverTasks
) -> Predictor:
    """Make a predictor from the adapted parameters by number of inner steps, in ascending order."""
    head_task, constant = task.on_features(), _constant(task)
    answers = [_answer(head_task or task, meta, support, params, taken, over_tasks) for taken, params in parameters.items()]
    features = _query_features(task, meta, support, over_tasks) if head_task else None

    def prepare(x: Inputs, mask: Tensor | None) -> Inputs:
        x = constant.inputs(x)
        return x if features is None else features(x, mask)

    return Predictor(answers, tuple(parameters), prepare if head_task or constant.call else None, parameters[max(parameters)])


def _answer(task: GradientTask, meta: Params, support: Examples, params: Params, taken: int, over_tasks: OverTasks) -> Answer:
    def answer_task(inputs: tuple[Examples, Params, Queries], autodiff: Autodiff) -> Tensor:
        task_support, task_params, queries = inputs
        return task.answer(meta, task_params, task_support, queries.x, queries.mask, taken)

    def answer(x: Inputs, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return over_tasks.map(answer_task, (support, params, Queries(x, mask)))

    return answer


def _query_features(task: GradientTask, meta: Params, support: Examples, over_tasks: OverTasks) -> Answer:
    def task_features(inputs: tuple[Examples, Queries], autodiff: Autodiff) -> Tensor:
        task_support, queries = inputs
        return task.query_features(meta, task_support, queries.x, queries.mask)

    def prepare(x: Inputs, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return over_tasks.map(task_features, (support, Queries(x, mask)))

    return prepare
