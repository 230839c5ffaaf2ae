"""How an estimator of scikit-learn is fitted to a task and answers: as a classifier, a regressor or an anomaly detector."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.problems.task_loss import TaskLoss, restricted

_LEAST = 1e-6  # lowest probability of a class of the support set; a forest answers 0, whose logarithm is no number
Answers = Callable[[np.ndarray], Tensor]


class ScikitLearn(Protocol):
    """What is asked of an estimator of scikit-learn."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Fit to examples (examples, features) and targets (examples,)."""

    def get_params(self) -> dict[str, Any]:
        """Return the constructor's arguments."""

    def set_params(self, **parameters: Any) -> Any:
        """Set some of them."""


class EstimatorFit(ABC):
    """What targets mean for an estimator."""

    @abstractmethod
    def check(self, made: ScikitLearn) -> None:
        """Raise a UserError if an estimator cannot answer tasks of this kind."""

    @abstractmethod
    def fit(self, made: ScikitLearn, x: np.ndarray, y: np.ndarray) -> Answers:
        """Fit to examples (examples, features) and targets (examples, ...); return the function from queries to answers."""


class Classifying(EstimatorFit):
    """Logits are logarithms of predicted probabilities. An estimator is not fitted to one class alone.

    Args:
        outputs: the highest ways that a task can have.
    """

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def check(self, made: ScikitLearn) -> None:
        """See :meth:`EstimatorFit.check`."""
        if not hasattr(made, "predict_proba"):
            raise UserError(f"algorithm.estimator: {type(made).__name__} predicts no probabilities; take another")

    def fit(self, made: ScikitLearn, x: np.ndarray, y: np.ndarray) -> Answers:
        """See :meth:`EstimatorFit.fit`."""
        classes = torch.from_numpy(np.unique(y))
        if several := len(classes) > 1:
            made.fit(x, y)
        present = torch.zeros(self.outputs, dtype=torch.bool)
        present[classes] = True

        def answers(queries: np.ndarray) -> Tensor:
            logits = torch.zeros(len(queries), self.outputs)
            if several:
                probabilities = torch.from_numpy(np.asarray(made.predict_proba(queries)))  # type: ignore[attr-defined]
                logits[:, classes] = probabilities.clamp(min=_LEAST).log().float()
            return restricted(logits, present)

        return answers


class Regressing(EstimatorFit):
    """Answers are predicted values."""

    def check(self, made: ScikitLearn) -> None:
        """See :meth:`EstimatorFit.check`; every estimator has ``predict``."""

    def fit(self, made: ScikitLearn, x: np.ndarray, y: np.ndarray) -> Answers:
        """See :meth:`EstimatorFit.fit`."""
        made.fit(x, y.reshape(len(y), -1).squeeze(1))

        def answers(queries: np.ndarray) -> Tensor:
            values = torch.from_numpy(np.asarray(made.predict(queries), dtype=np.float32))  # type: ignore[attr-defined]
            return values.view(len(queries), *y.shape[1:])

        return answers


class Detecting(EstimatorFit):
    """Answers are anomaly scores (queries, 1), from features that vary in the support set.

    A classifier learns inliers against labelled anomalies, and its scores are log odds; without labelled anomalies all scores
    are equal. Any other estimator is fitted to the rows that are no labelled anomalies, without targets. It answers
    ``score_samples``, which is low for anomalies as in scikit-learn, or else ``decision_function``, which is high for them as
    in PyOD.
    """

    def check(self, made: ScikitLearn) -> None:
        """See :meth:`EstimatorFit.check`."""
        if not any(hasattr(made, name) for name in ("predict_proba", "score_samples", "decision_function")):
            raise UserError(
                f"algorithm.estimator: {type(made).__name__} gives no scores; take a classifier with probabilities, or a "
                f"detector such as algorithm/estimator=isolation_forest"
            )

    def fit(self, made: ScikitLearn, x: np.ndarray, y: np.ndarray) -> Answers:
        """See :meth:`EstimatorFit.fit`."""
        from sklearn.base import ClassifierMixin

        anomalous = y.reshape(len(y)) > 0.5
        varying = (x[~anomalous].max(0, initial=-np.inf) > x[~anomalous].min(0, initial=np.inf)) | ~np.isfinite(x).all(0)
        varying |= not varying.any()
        if isinstance(made, ClassifierMixin):
            return self._classifier(made, x[:, varying], anomalous, varying)
        made.fit(x[~anomalous][:, varying])  # type: ignore[call-arg]
        scores = getattr(made, "score_samples", None)

        def answers(queries: np.ndarray) -> Tensor:
            low = scores is not None
            values = scores(queries[:, varying]) if scores is not None else made.decision_function(queries[:, varying])  # type: ignore[attr-defined]
            return torch.from_numpy(np.asarray(values, dtype=np.float32)).view(-1, 1) * (-1 if low else 1)

        return answers

    @staticmethod
    def _classifier(made: ScikitLearn, x: np.ndarray, anomalous: np.ndarray, varying: np.ndarray) -> Answers:
        both = bool(anomalous.any() and not anomalous.all())
        if both:
            made.fit(x, anomalous.astype(np.int64))

        def answers(queries: np.ndarray) -> Tensor:
            if not both:
                return torch.zeros(len(queries), 1)
            odds = torch.from_numpy(np.asarray(made.predict_proba(queries[:, varying])))  # type: ignore[attr-defined]
            logits = odds.clamp(min=_LEAST).log().float()
            return logits[:, 1:] - logits[:, :1]

        return answers


def fitting_for(loss: TaskLoss, outputs: int) -> EstimatorFit:
    """What targets mean for tasks with this loss."""
    if loss.of_anomalies:
        return Detecting()
    return Classifying(outputs) if loss.of_classes else Regressing()
