"""Predictions of an adapted learner for a user's own examples."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

from metaloop.data.user.tasks import TargetScale, UserFileDataset, UserRows, UserTask
from metaloop.errors import UserError
from metaloop.learners.learner import Learner, Predictor
from metaloop.metrics.interval import LEVEL, Interval, mean_interval
from metaloop.metrics.proportions import Proportion, proportion
from metaloop.problems.anomaly_scoring import AUROC, AnomalyScoring
from metaloop.problems.metric import ACCURACY, Metric
from metaloop.problems.problem import Problem
from metaloop.types import Examples, Inputs, map_inputs

_BATCH = 64  # queries that are predicted at once, or as many as the support set has, unless they depend on each other


@dataclass(frozen=True)
class Predictions:
    """Predictions for the rows of a query file, in its order.

    Attributes:
        rows: Rows of the query file.
        classes: Names of the classes; empty for regression.
        probabilities: (rows, classes) for classification, else None.
        mean: (rows,) for regression, in the target's unit, else None.
        deviation: (rows,) standard deviations in that unit; None if the learner does not predict them.
        metric: Metric of the score: accuracy, mean squared error in the target's squared unit, or for ratings absolute error.
        score: Score over the rows whose label is one of the support set's (for regression, a number); None without any.
        strange: Labels of the other labelled rows, which cannot be scored.
        repeated: Number of rows that are examples of the support set.
        transductive: Whether a prediction depends on the other queries.
        anomaly: (rows,) anomaly scores, higher for anomalies; None for other problems.
        threshold: Score above which a row raises an alarm; None if no alarm rate was given.
    """

    rows: UserRows
    classes: tuple[str, ...]
    probabilities: Tensor | None
    mean: Tensor | None
    deviation: Tensor | None
    metric: Metric
    score: Interval | Proportion | None
    strange: tuple[str, ...]
    repeated: int
    transductive: bool
    anomaly: Tensor | None = None
    threshold: float | None = None

    @property
    def labels(self) -> list[str]:
        """Most probable class of each row."""
        assert self.probabilities is not None
        return [self.classes[number] for number in self.probabilities.argmax(-1).tolist()]

    @property
    def alarms(self) -> list[int]:
        """1 for each row whose anomaly score is above the threshold, else 0."""
        assert self.anomaly is not None
        assert self.threshold is not None
        return (self.anomaly > self.threshold).int().tolist()

    def table(self) -> dict[str, list[str] | list[float] | list[int]]:
        """Columns of ``predictions.csv``; rows are counted from 1."""
        first: dict[str, list[str] | list[float] | list[int]] = {
            "row": list(range(1, len(self.rows) + 1)),
            "input": list(self.rows.captions),
        }
        if self.probabilities is not None:
            columns = {f"p({name})": self.probabilities[:, number].tolist() for number, name in enumerate(self.classes)}
            return {**first, "label": self.labels, **columns}
        if self.anomaly is not None:
            return {**first, "score": self.anomaly.tolist(), **({} if self.threshold is None else {"alarm": self.alarms})}
        assert self.mean is not None
        more = {} if self.deviation is None else {"standard_deviation": self.deviation.tolist()}
        return {**first, "mean": self.mean.tolist(), **more}


def predictions(
    dataset: UserFileDataset,
    task: UserTask,
    learner: Learner,
    predictor: Predictor,
    rows: UserRows,
    threshold: float | None = None,
    *,
    ranked: bool = False,
) -> Predictions:
    """Predict a user's examples with an adapted learner.

    Args:
        dataset: Data set that prepares the examples.
        task: Support set that the learner was adapted to.
        learner: Learner before adaptation; tells whether predictions depend on the other queries.
        predictor: The adapted learner.
        rows: The examples.
        threshold: Anomaly score above which a row raises an alarm; None for no alarms.
        ranked: Whether to order the rows by their prediction, the highest first; for regression.

    Raises:
        UserError: a prediction is not finite.
    """
    device = next((parameter.device for parameter in learner.parameters()), torch.device("cpu"))
    # In-context learners read the support set again for each batch, which must not be most of their work.
    size = len(rows) if learner.transductive else max(_BATCH, task.y.shape[1])
    answers, scale = [], None
    for query in _with_progress(list(_batches(rows.inputs, len(rows), size))):
        _, x, scale = dataset.user_inputs(task.inputs, task.targets, task.mask, query)
        answers.append(predictor(map_inputs(lambda tensor: tensor.to(device), x))[0].detach().float().cpu())
    outputs = torch.cat(answers)
    if not torch.isfinite(outputs).all():
        raise UserError("the adapted model's predictions are not finite: take fewer inner steps with steps=")
    if ranked:
        order = outputs.flatten(1)[:, 0].argsort(descending=True, stable=True)
        outputs, rows = outputs[order], rows.ordered(order.tolist())
    repeated = sum(digest in task.known for digest in rows.hashes)
    labels = [task.label(given) for given in rows.labels]
    strange = tuple(given for given, known in zip(rows.labels, labels, strict=True) if given is not None and known is None)
    if task.classes:
        probabilities = F.softmax(outputs, -1)
        accuracy = _accuracy(probabilities, task.classes, labels)
        return Predictions(
            rows, task.classes, probabilities, None, None, ACCURACY, accuracy, strange, repeated, learner.transductive
        )
    if isinstance(dataset.problem, AnomalyScoring):
        area, scores = _area(outputs[:, 0], labels), outputs[:, 0]
        return Predictions(rows, (), None, None, None, AUROC, area, strange, repeated, learner.transductive, scores, threshold)
    mean, deviation = _in_units(outputs, scale)
    score = _error(dataset.problem, mean, deviation, labels)
    return Predictions(rows, (), None, mean, deviation, dataset.problem.metric, score, strange, repeated, learner.transductive)


def _batches(inputs: Inputs, count: int, size: int) -> Iterator[Inputs]:
    for start in range(0, count, size):
        yield map_inputs(lambda tensor, start=start: tensor[None, start : start + size], inputs)  # type: ignore[misc]


def _with_progress(batches: list[Inputs]) -> Iterable[Inputs]:
    console = Console(stderr=True)
    hidden = len(batches) < 2 or not console.is_terminal
    return track(batches, "predicting", console=console, disable=hidden, transient=True)


def _in_units(outputs: Tensor, scale: TargetScale | None) -> tuple[Tensor, Tensor | None]:
    """Convert outputs (rows, 1) or (rows, 1, 2) to means and standard deviations (rows,) in the target's unit."""
    assert scale is not None
    outputs = outputs.double()
    means, deviations = (outputs[:, 0], None) if outputs.ndim == 2 else (outputs[:, 0, 0], outputs[:, 0, 1] * scale.unit)
    return (means * scale.unit + scale.mean).clamp(*scale.bounds), deviations


def _accuracy(probabilities: Tensor, classes: tuple[str, ...], labels: Sequence[str | None]) -> Proportion | None:
    best = probabilities.argmax(-1).tolist()
    correct = [classes[guess] == label for guess, label in zip(best, labels, strict=True) if label is not None]
    return proportion(correct) if correct else None


def _area(scores: Tensor, labels: Sequence[str | None]) -> Interval | None:
    """Area under the ROC curve of the labelled rows, without an interval; None unless there are rows of both kinds."""
    targets = torch.tensor([float(label or "nan") for label in labels])
    known = ~targets.isnan()
    if not (bool((targets == 0).any()) and bool((targets == 1).any())):
        return None
    query = Examples(scores[None, known, None], targets[None, known, None])
    return Interval(float(AnomalyScoring().scores(scores[None, known, None], query)["score"]), None, int(known.sum()), LEVEL)


def _error(problem: Problem, means: Tensor, deviations: Tensor | None, labels: Sequence[str | None]) -> Interval | None:
    targets = torch.tensor([float(label or "nan") for label in labels], dtype=torch.float64)
    errors = problem.errors(means, deviations, targets)[~targets.isnan()]
    return mean_interval(errors.tolist()) if len(errors) else None
