"""Code shared by learners that adapt without inner steps, so that they have one iterate."""

from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks, with_gradient
from metaloop.learners.learner import Predictor
from metaloop.types import Examples, Inputs, OuterLoss, Params, Queries

Answers = Callable[[Params, Examples, Inputs, Tensor | None], Tensor]


def predictor(answers: Answers, meta: Params, support: Examples, over_tasks: OverTasks) -> Predictor:
    """Make a predictor for stacked tasks.

    Args:
        answers: ``answers(meta, support, x, mask)`` gives the answers to one task's queries, (queries, *output).
        meta: the meta-parameters, without a graph.
        support: (tasks, examples, ...).
        over_tasks: how per-task functions are run.
    """

    def answer_task(task: tuple[Examples, Queries], autodiff: Autodiff) -> Tensor:
        task_support, queries = task
        return answers(meta, task_support, queries.x, queries.mask)

    def answer(x: Inputs, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return over_tasks.map(answer_task, (support, Queries(x, mask)))

    return Predictor([answer])


def outer_loss(meta: Params, gradients: Params, per_task: Params, resting: frozenset[str] = frozenset()) -> OuterLoss:
    """Average the tasks' losses, and attach gradients that are already known.

    Args:
        meta: the meta-parameters.
        gradients: gradients of the mean loss, by the names of the meta-parameters.
        per_task: ``loss`` (tasks,) and ``answers`` (tasks, queries, *output).
        resting: names of the meta-parameters that this outer step leaves alone, see :class:`OuterLoss`.
    """
    value = per_task["loss"].mean()
    value = with_gradient(value, meta, gradients) if torch.is_grad_enabled() else value
    return OuterLoss(value, per_task["answers"], per_task["loss"][:, None], resting)
