"""Measures of what adaptation does to parameters, representations and predictions, over meta-test episodes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.data.episodes import Episodes
from metaloop.errors import UserError
from metaloop.evaluation.class_scores import ClassScores
from metaloop.evaluation.embedding_map import embedding_map
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.gradient.adaptation import curve_steps
from metaloop.learners.gradient.trace import MOVEMENT, SIMILARITY, Stepwise, Trace, moving_layers, stepwise, trace, walk
from metaloop.learners.learner import Learner
from metaloop.metrics.interval import LEVEL, mean_interval
from metaloop.models.norm import norm_mode
from metaloop.problems.problem import Problem
from metaloop.records.schema import INSPECTION_VERSION
from metaloop.types import Tasks

Values = dict[str, list[np.ndarray]]  # by name; one array for each episode


@dataclass
class _Measurements:
    """Measurements of the episodes so far."""

    values: Values = field(default_factory=dict)
    represented: tuple[str, ...] = ()
    map: dict[str, np.ndarray] | None = None

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value.double().cpu().numpy())


def inspect(
    learner: Learner, episodes: Episodes, count: int, batch: int, steps: int | None, device: torch.device
) -> tuple[dict[str, Any], dict[str, np.ndarray] | None]:
    """Adapt to the first ``count`` episodes and measure what adaptation changes.

    Tasks run one by one with plain autograd in single precision, whatever the run's own settings.

    Args:
        learner: Trained learner in evaluation mode, on ``device``.
        episodes: Episodes of the test split.
        count: Number of episodes, at least 2.
        batch: Episodes drawn at once, as in the meta-test.
        steps: Inner steps; None for the learner's own number.
        device: Device of learner and episodes.

    Returns:
        The measurements as plain data, and the arrays of the first episode's embedding map or None.

    Raises:
        UserError: ``steps`` is given for a learner that takes no inner steps, or a loss is not finite.
    """
    inner = stepwise(learner)
    if steps is not None and inner is None:
        raise UserError(f"--steps {steps}: {type(learner).__name__} takes no inner steps; leave out --steps")
    if inner is not None and steps is None:
        steps = inner.steps_for(episodes.tasks(torch.zeros(1, dtype=torch.int64, device=device)).support.y.shape[1])
    points = [0] if steps is None else list(curve_steps(steps))
    learner.over_tasks = Loop()
    problem, measured, classes = episodes.distribution.problem, _Measurements(), ClassScores(episodes.distribution)
    for tasks in episodes.batches(0, count, batch, device):
        for i in range(len(tasks)):
            _episode(learner, inner, tasks[i : i + 1], points, problem, measured, classes)
    broken = sum(not np.isfinite(losses).all() for losses in measured.values["query_loss"])
    if broken:
        raise UserError(f"the learner's loss is not finite in {broken} of {count} episodes; take fewer --steps")
    return _as_plain_data(learner, inner, episodes, measured, classes, steps, points), measured.map


def _episode(
    learner: Learner,
    inner: Stepwise | None,
    tasks: Tasks,
    points: Sequence[int],
    problem: Problem,
    measured: _Measurements,
    classes: ClassScores,
) -> None:
    """Measure one episode, given with its tasks axis, and add it to ``measured`` and ``classes``."""
    one = tasks.map(lambda tensor: tensor[0])
    with torch.no_grad():
        steps = None
        if inner is None:
            answers = learner.adapt(tasks.support)(tasks.query.x, tasks.query.mask)
        else:
            steps, measured.represented = trace(inner, one.support, one.query, points)
            answers = steps.answers
            measured.add(inner_loss=steps.inner_loss, **_by_layer_and_measure(steps))
        if not measured.values.get("index") and problem.has_classes:
            measured.map = embedding_map(learner, inner, steps, one)
            names = classes.names(tasks)
            if measured.map is not None and names is not None:
                measured.map["names"] = np.array(names, str)
        scores = [_scores(each, tasks, problem) for each in answers]
        score, loss = (torch.stack(values) for values in zip(*scores, strict=True))
        measured.add(index=one.index, score=score, query_loss=loss)
        if inner is not None and inner.head and inner.body:
            for part, fixed in (("head", inner.body), ("body", inner.head)):
                measured.add(**{part: _score_with_fixed(inner, tasks, one, points[-1], fixed, problem)})
    if problem.has_classes:
        real = slice(None) if one.query.mask is None else one.query.mask
        classes.add(answers[-1].argmax(-1)[real].cpu(), one.query.y[real].cpu(), one.classes, one.support.ways)


def _by_layer_and_measure(steps: Trace) -> dict[str, Tensor]:
    movement = {f"movement/{name}": value for name, value in steps.movement.items()}
    return movement | {f"similarity/{name}": value for name, value in steps.similarity.items()}


def _scores(answers: Tensor, tasks: Tasks, problem: Problem) -> tuple[Tensor, Tensor]:
    """Score and loss of one episode's outputs (queries, *output)."""
    scores = problem.scores(answers[None], tasks.query)
    return scores["score"][0], scores["loss"][0]


def _score_with_fixed(
    inner: Stepwise, tasks: Tasks, one: Tasks, steps: int, fixed: tuple[str, ...], problem: Problem
) -> Tensor:
    """Score after adaptation in which the parameters ``fixed`` do not move."""
    *_, params = walk(inner, one.support, steps, fixed)
    answers = inner.task.answer(inner.meta, params, one.support, one.query.x, one.query.mask, steps)
    return _scores(answers, tasks, problem)[0]


def _as_plain_data(
    learner: Learner,
    inner: Stepwise | None,
    episodes: Episodes,
    measured: _Measurements,
    classes: ClassScores,
    steps: int | None,
    points: Sequence[int],
) -> dict[str, Any]:
    problem, spec, values = episodes.distribution.problem, episodes.spec, measured.values
    result: dict[str, Any] = {
        "schema": INSPECTION_VERSION, "problem": problem.name, "metric": problem.metric.as_dict(), "level": LEVEL,
        "setting": problem.size(spec),
        "episodes": len(values["index"]), "ways": spec.ways, "shots": spec.shots, "queries": spec.queries, "split": "test",
        "norm_mode": norm_mode(learner.model), "transductive": learner.transductive, "steps": steps, "points": list(points),
        "score": _along(values["score"]), "query_loss": _along(values["query_loss"]),
    }  # fmt: skip
    if inner is not None:
        result |= {"inner_loss": _along(values["inner_loss"]), "adapted": list(inner.task.adapted)}
        result |= {"parameters": _by_layer(moving_layers(inner), "movement", MOVEMENT, values)}
        result |= {"representations": _by_layer(measured.represented, "similarity", SIMILARITY, values)}
    result["parts"], result["by_episode"] = _parts(values)
    if problem.has_classes:
        result |= {"classes": classes.accuracies(), "confusion": classes.confusion()}
    return result


def _interval(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Mean and half-width over episodes; a mean of None if it is not finite (a zero vector has no direction)."""
    interval = mean_interval(values)
    return {"mean": interval.mean if np.isfinite(interval.mean) else None, "half_width": interval.half_width}


def _along(values: Sequence[np.ndarray]) -> list[dict[str, float | None]]:
    """Intervals over episodes, one for each point of their curves (points,)."""
    return [_interval(column) for column in np.stack(values, 1)]


def _by_layer(layers: Any, group: str, measures: Sequence[str], values: Values) -> list[dict[str, Any]]:
    """Name of each layer with the curve of every measure."""
    return [
        {"layer": name} | {m: _along([each[:, column] for each in values[f"{group}/{m}"]]) for m in measures}
        for column, name in enumerate(layers)
    ]


def _parts(values: Values) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Scores before and after adaptation and with one part fixed, their paired differences, and the scores by episode."""
    each: dict[str, np.ndarray] = {"all": np.array([curve[-1] for curve in values["score"]])}
    if len(values["score"][0]) > 1:
        each = {"start": np.array([curve[0] for curve in values["score"]]), **each}
    each |= {part: np.array(values[part]) for part in ("head", "body") if part in values}
    parts: dict[str, Any] = {name: _interval(scores) for name, scores in each.items()}
    parts["all_minus"] = {other: _interval(each["all"] - scores) for other, scores in each.items() if other != "all"}
    parts["minus_start"] = {part: _interval(each[part] - each["start"]) for part in ("head", "body") if part in each}
    table = {"index": [int(index) for index in values["index"]]}
    return parts, table | {name: scores.tolist() for name, scores in each.items()}
