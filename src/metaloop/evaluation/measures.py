"""What adaptation does to parameters, representations and answers, averaged over meta-test episodes."""

from collections.abc import Mapping, Sequence
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

Values = dict[str, list[np.ndarray]]  # one entry an episode


@dataclass
class _Seen:
    """What was measured so far."""

    values: Values = field(default_factory=dict)
    represented: tuple[str, ...] = ()
    map: dict[str, np.ndarray] | None = None

    def add(self, **found: Tensor) -> None:
        for name, value in found.items():
            self.values.setdefault(name, []).append(value.double().cpu().numpy())


def inspect(
    learner: Learner, episodes: Episodes, count: int, batch: int, steps: int | None, device: torch.device
) -> tuple[dict[str, Any], dict[str, np.ndarray] | None]:
    """Adapt to the first ``count`` episodes and look at what happens.

    Tasks are looped over with plain autograd, in single precision, however the run itself went about them.

    Args:
        learner: trained, in evaluation mode, on ``device``.
        episodes: of the test split.
        count: at least 2.
        batch: episodes drawn at once, as in the meta-test.
        steps: inner steps; None for the learner's own.
        device: where.

    Returns:
        What was measured, as plain data; and the arrays of the first episode's embedding map, or None.

    Raises:
        UserError: the learner takes no inner steps and some are asked for; or it diverges.
    """
    of = stepwise(learner)
    if steps is not None and of is None:
        raise UserError(f"--steps {steps}: {type(learner).__name__} does not adapt in inner steps; leave it out")
    taken = None if of is None else steps or of.steps
    points = [0] if taken is None else list(curve_steps(taken))
    learner.over_tasks = Loop()
    problem, seen, classes = episodes.distribution.problem, _Seen(), ClassScores(episodes.distribution)
    for tasks in episodes.batches(0, count, batch, device):
        for i in range(len(tasks)):
            _episode(learner, of, tasks[i : i + 1], points, problem, seen, classes)
    broken = sum(not np.isfinite(losses).all() for losses in seen.values["query_loss"])
    if broken:
        raise UserError(f"the learner's answers are not finite in {broken} of {count} episodes; take fewer --steps")
    return _told(learner, of, episodes, seen, classes, taken, points), seen.map


def _episode(
    learner: Learner,
    of: Stepwise | None,
    tasks: Tasks,
    points: Sequence[int],
    problem: Problem,
    seen: _Seen,
    classes: ClassScores,
) -> None:
    """Look at one episode (with its tasks axis)."""
    one = tasks.map(lambda tensor: tensor[0])
    with torch.no_grad():
        found = None
        if of is None:
            answers = learner.adapt(tasks.support)(tasks.query.x, tasks.query.mask)
        else:
            found, seen.represented = trace(of, one.support, one.query, points)
            answers = found.answers
            seen.add(inner_loss=found.inner_loss, **_renamed(found))
        if not seen.values.get("index") and problem.has_classes:
            seen.map = embedding_map(learner, of, found, one)
        scores = [_scores(each, tasks, problem) for each in answers]
        seen.add(index=one.index, score=torch.stack([s for s, _ in scores]), query_loss=torch.stack([x for _, x in scores]))
        if of is not None and of.head and of.body:
            for part, held in (("head", of.body), ("body", of.head)):
                seen.add(**{part: _held(of, tasks, one, points[-1], held, problem)})
    if problem.has_classes:
        real = slice(None) if one.query.mask is None else one.query.mask
        classes.add(answers[-1].argmax(-1)[real].cpu(), one.query.y[real].cpu(), one.classes, one.support.ways)


def _renamed(found: Trace) -> dict[str, Tensor]:
    moved = {f"movement/{name}": value for name, value in found.movement.items()}
    return moved | {f"similarity/{name}": value for name, value in found.similarity.items()}


def _scores(answers: Tensor, tasks: Tasks, problem: Problem) -> tuple[Tensor, Tensor]:
    """Score and loss of one episode's answers (queries, *output)."""
    found = problem.scores(answers[None], tasks.query)
    return found["score"][0], found["loss"][0]


def _held(of: Stepwise, tasks: Tasks, one: Tasks, steps: int, held: tuple[str, ...], problem: Problem) -> Tensor:
    """The score where some parameters stay at their start."""
    *_, params = walk(of, one.support, steps, held)
    answers = of.task.answer(of.meta, params, one.support, one.query.x, one.query.mask)
    return _scores(answers, tasks, problem)[0]


def _told(
    learner: Learner,
    of: Stepwise | None,
    episodes: Episodes,
    seen: _Seen,
    classes: ClassScores,
    steps: int | None,
    points: Sequence[int],
) -> dict[str, Any]:
    problem, spec, values = episodes.distribution.problem, episodes.spec, seen.values
    told: dict[str, Any] = {
        "schema": INSPECTION_VERSION, "problem": problem.name, "metric": problem.metric.as_dict(), "level": LEVEL,
        "setting": problem.setting(spec.ways, spec.shots),
        "episodes": len(values["index"]), "ways": spec.ways, "shots": spec.shots, "queries": spec.queries, "split": "test",
        "norm_mode": norm_mode(learner.model), "transductive": learner.transductive, "steps": steps, "points": list(points),
        "score": _along(values["score"]), "query_loss": _along(values["query_loss"]),
    }  # fmt: skip
    if of is not None:
        told |= {"inner_loss": _along(values["inner_loss"]), "adapted": list(of.task.adapted)}
        told |= {"parameters": _by_layer(moving_layers(of), "movement", MOVEMENT, values)}
        told |= {"representations": _by_layer(seen.represented, "similarity", SIMILARITY, values)}
    told["parts"], told["by_episode"] = _parts(values)
    if problem.has_classes:
        told |= {"classes": classes.accuracies(), "confusion": classes.confusion()}
    return told


def _interval(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Mean and half-width over episodes; None where an episode has no such value, as a zero has no direction."""
    found = mean_interval(values)
    return {"mean": found.mean if np.isfinite(found.mean) else None, "half_width": found.half_width}


def _along(values: Sequence[np.ndarray]) -> list[dict[str, float | None]]:
    """An interval for each point of curves (points,)."""
    return [_interval(column) for column in np.stack(values, 1)]


def _by_layer(layers: Any, group: str, measures: Sequence[str], values: Values) -> list[dict[str, Any]]:
    """For each layer its name and the curve of every measure."""
    return [
        {"layer": name} | {m: _along([each[:, column] for each in values[f"{group}/{m}"]]) for m in measures}
        for column, name in enumerate(layers)
    ]


def _parts(values: Values) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Scores before, after, and with a part held, their paired differences, and the scores episode by episode."""
    each: Mapping[str, np.ndarray] = {"all": np.array([curve[-1] for curve in values["score"]])}
    if len(values["score"][0]) > 1:
        each = {"start": np.array([curve[0] for curve in values["score"]]), **each}
    each |= {part: np.array(values[part]) for part in ("head", "body") if part in values}
    parts: dict[str, Any] = {name: _interval(scores) for name, scores in each.items()}
    parts["all_minus"] = {other: _interval(each["all"] - scores) for other, scores in each.items() if other != "all"}
    parts["minus_start"] = {part: _interval(each[part] - each["start"]) for part in ("head", "body") if part in each}
    table = {"index": [int(index) for index in values["index"]]}
    return parts, table | {name: scores.tolist() for name, scores in each.items()}
