"""What learners share that adapt in one go: no inner steps, so one iterate."""

from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks, with_gradient
from metaloop.learners.learner import Predictor
from metaloop.types import Examples, Inputs, OuterLoss, Params, Queries

Answers = Callable[[Params, Examples, Inputs, Tensor | None], Tensor]


def predictor(answers: Answers, meta: Params, support: Examples, over_tasks: OverTasks) -> Predictor:
    """What ``answers(meta, support, x, mask)`` says of one task's queries (queries, *output), run over stacked tasks."""

    def one(task: tuple[Examples, Queries], autodiff: Autodiff) -> Tensor:
        own, queries = task
        return answers(meta, own, queries.x, queries.mask)

    def answer(x: Inputs, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return over_tasks.map(one, (support, Queries(x, mask)))

    return Predictor([answer])


def outer_loss(meta: Params, gradients: Params, aside: Params, resting: frozenset[str] = frozenset()) -> OuterLoss:
    """The mean of the tasks' losses, with these gradients for the meta-parameters.

    Args:
        meta: the meta-parameters.
        gradients: of the mean loss, by their names.
        aside: ``loss`` (tasks,) and ``answers`` (tasks, queries, *output).
        resting: see :class:`OuterLoss`.
    """
    value = aside["loss"].mean()
    value = with_gradient(value, meta, gradients) if torch.is_grad_enabled() else value
    return OuterLoss(value, aside["answers"], aside["loss"][:, None], resting)
