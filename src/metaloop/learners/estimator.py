"""Learners of scikit-learn as baselines: each task is fitted from scratch, on the same episodes as everything else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import Loop, OverTasks
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.problems.task_loss import TaskLoss, restricted
from metaloop.types import Examples, Inputs, OuterLoss, Tasks, map_inputs

_LEAST = 1e-6  # lowest probability of a class of the support set; a forest answers 0, whose logarithm is no number


class ScikitLearn(Protocol):
    """What is asked of an estimator of scikit-learn."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Fit to examples (examples, features) and targets (examples,)."""

    def get_params(self) -> dict[str, Any]:
        """Return the constructor's arguments."""

    def set_params(self, **parameters: Any) -> Any:
        """Set some of them."""


class Estimator(Learner):
    """A classifier or regressor of scikit-learn, fitted to the features of each task's support set. Nothing is meta-trained.

    Logits are logarithms of predicted probabilities, of at least 1e-6. If the estimator draws random numbers
    (``random_state``), its seed is the task's number. An estimator that cannot be fitted to one class alone is not asked to.

    Args:
        model: the embedding, without a head; ``model=cells`` for the values of a table as they are.
        loss: loss of one task.
        outputs: the highest ways that a task can have, or the target's size.
        estimator: makes the estimator.
        over_tasks: how tasks are run: in a loop.

    Raises:
        UserError: the estimator predicts no probabilities, in classification, or tasks are to be run in another way.
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
        self.classifies = loss.of_classes
        made = estimator()
        if self.classifies and not hasattr(made, "predict_proba"):
            raise UserError(f"algorithm.estimator: {type(made).__name__} predicts no probabilities; take another")
        self.over_tasks = Loop()  # the fastest of one
        self.embedding = FunctionalModel(model)
        self.idle = nn.Parameter(torch.zeros(()))  # the optimizer of the one outer step needs a parameter

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; a classifier needs two classes."""
        if self.classifies and ways < 2:
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
            for (made, classes), queries, number in zip(fitted, each, numbers, strict=True):
                with _said(made, number):
                    answers.append(self._answers(made, classes, queries))
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

    def _fitted(self, support: Examples, number: int) -> tuple[ScikitLearn | None, Tensor]:
        """The fitted estimator, None if there is one class alone, and the classes or the targets' shape."""
        real = np.ones(len(support.y), dtype=bool) if support.mask is None else support.mask.cpu().numpy()
        x, y = self._features(support.x)[real], support.y.cpu().numpy()[real]
        classes = torch.from_numpy(np.unique(y)) if self.classifies else support.y[0]
        if self.classifies and len(classes) == 1:
            return None, classes
        made = self.estimator()
        if "random_state" in made.get_params():
            made.set_params(random_state=number % 2**32)
        with _said(made, number):
            made.fit(x, y if self.classifies else y.reshape(len(y), -1).squeeze(1))
        return made, classes

    def _answers(self, made: ScikitLearn | None, classes: Tensor, x: Inputs) -> Tensor:
        """Answers (queries, outputs), or (queries, *target) in regression."""
        features = self._features(x)
        if not self.classifies:
            values = torch.from_numpy(np.asarray(made.predict(features), dtype=np.float32))  # type: ignore[union-attr]
            return values.view(len(features), *classes.shape)
        logits = torch.zeros(len(features), self.outputs)
        if made is not None:
            probabilities = torch.from_numpy(np.asarray(made.predict_proba(features)))  # type: ignore[attr-defined]
            logits[:, classes] = probabilities.clamp(min=_LEAST).log().float()
        present = torch.zeros(self.outputs, dtype=torch.bool)
        present[classes] = True
        return restricted(logits, present)


@contextmanager
def _said(made: ScikitLearn | None, number: int) -> Iterator[None]:
    """Turn an estimator's refusal into a UserError that names the estimator and the task."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"algorithm.estimator: {type(made).__name__} refuses the task numbered {number}: {error}") from error
