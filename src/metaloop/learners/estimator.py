"""Learners of scikit-learn as baselines: each task is fitted from scratch, on the same episodes as everything else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import Loop, OverTasks
from metaloop.learners.estimator_fits import Answers, ScikitLearn, fitting_for
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Tasks, map_inputs


class Estimator(Learner):
    """An estimator of scikit-learn, fitted to the features of each task's support set. Nothing is meta-trained.

    Classifiers, regressors and anomaly detectors answer as :mod:`metaloop.learners.estimator_fits` says. If the estimator draws
    random numbers (``random_state``), its seed is the task's number.

    Args:
        model: the embedding, without a head; ``model=cells`` for the values of a table as they are.
        loss: loss of one task.
        outputs: the highest ways that a task can have, or the target's size.
        estimator: makes the estimator.
        over_tasks: how tasks are run: in a loop.

    Raises:
        UserError: the estimator predicts no probabilities or scores, where they are needed, or tasks are to be run in another
            way.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, outputs=True)
    learns = False
    transductive = False

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        outputs: int,
        estimator: Callable[[], ScikitLearn],
        over_tasks: OverTasks,
    ) -> None:
        super().__init__()
        if not isinstance(over_tasks, Loop | Auto):
            raise UserError(
                f"algorithm/over_tasks: {type(over_tasks).__name__} cannot run an estimator of scikit-learn, which fits one "
                f"task after another; take algorithm/over_tasks=loop"
            )
        self.model, self.loss, self.outputs = model, loss, outputs
        self.estimator = estimator
        self.fitting = fitting_for(loss, outputs)
        self.fitting.check(estimator())
        self.over_tasks = Loop()  # the fastest of one
        self.embedding = FunctionalModel(model)
        self.idle = nn.Parameter(torch.zeros(()))  # the optimizer of the one outer step needs a parameter

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; a classifier needs two classes."""
        if self.loss.of_classes and ways < 2:
            raise UserError(f"episode.ways={ways}: classification needs at least 2")

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; there are no inner steps, so there is one iterate."""
        if unlabelled is not None:
            raise UserError("algorithm=estimator does not use unlabelled examples; take episode.unlabelled=0")
        tasks = [support.map(lambda tensor, i=i: tensor[i]) for i in range(len(support.y))]  # type: ignore[misc]
        numbers = [0] * len(tasks) if support.number is None else support.number.tolist()
        fitted = [self._fitted(task, number) for task, number in zip(tasks, numbers, strict=True)]

        def answer(x: Inputs, mask: Tensor | None) -> Tensor:
            each = [map_inputs(lambda tensor, i=i: tensor[i], x) for i in range(len(tasks))]  # type: ignore[misc]
            answers = []
            for (made, answers_of), queries, number in zip(fitted, each, numbers, strict=True):
                with _said(made, number):
                    answers.append(answers_of(self._features(queries)))
            return torch.stack(answers)

        return Predictor([answer])

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; its gradient is zero."""
        answers = self.adapt(tasks.support)(tasks.query.x, tasks.query.mask)
        queries = [tasks.query.map(lambda tensor, i=i: tensor[i]) for i in range(len(tasks))]  # type: ignore[misc]
        losses = torch.stack([self.loss(each, query) for each, query in zip(answers, queries, strict=True)])
        return OuterLoss(losses.mean() + 0 * self.idle, answers, losses[:, None])

    def _features(self, x: Inputs) -> np.ndarray:
        meta = {name: value.detach() for name, value in self.named_parameters()}
        assert self.embedding is not None
        with torch.no_grad():
            return self.embedding.outputs(meta, {}, x, None).cpu().numpy()

    def _fitted(self, support: Examples, number: int) -> tuple[ScikitLearn, Answers]:
        """The fitted estimator, and its answers to the features of queries."""
        real = np.ones(len(support.y), dtype=bool) if support.mask is None else support.mask.cpu().numpy()
        x, y = self._features(support.x)[real], support.y.cpu().numpy()[real]
        made = self.estimator()
        if "random_state" in made.get_params():
            made.set_params(random_state=number % 2**32)
        with _said(made, number):
            return made, self.fitting.fit(made, x, y)


@contextmanager
def _said(made: ScikitLearn, number: int) -> Iterator[None]:
    """Turn an estimator's refusal into a UserError that names the estimator and the task."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"algorithm.estimator: {type(made).__name__} refuses the task numbered {number}: {error}") from error
