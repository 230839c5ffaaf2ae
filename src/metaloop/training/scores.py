"""Scores of adapted learners, episode by episode."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
import torch.distributed as dist
from torch import Tensor

from metaloop.learners.learner import Learner
from metaloop.metrics.interval import LEVEL, Interval, mean_interval
from metaloop.problems.problem import Problem, Scores
from metaloop.types import Tasks

_POINTS = 50  # most points of a curve over queries


def score(learner: Learner, tasks: Tasks, problem: Problem) -> Scores:
    """Adapt to the support sets and score the queries.

    Queries of no class (``Tasks.outside``) are predicted in a call of their own, so that no other score depends on them. A
    transductive learner's predictions depend on the other queries of a call, so the two could not be compared; it does not
    predict them.

    Returns:
        ``index`` (tasks,); the problem's scores and details after adaptation; ``curve`` and ``loss_curve`` (tasks, points),
        score and loss after the numbers of inner steps in ``curve_step`` (tasks, points).
    """
    predictor = learner.adapt(tasks.support)
    query = tasks.query
    curve = predictor.curve(query.x, query.mask)
    points = [problem.scores(outputs, query) for outputs in curve]
    rejects = tasks.outside is not None and not learner.transductive
    details = problem.details(curve[-1], query, predictor(tasks.outside) if rejects else None)  # type: ignore[arg-type]
    curves = {
        "curve": torch.stack([p["score"] for p in points], 1),
        "loss_curve": torch.stack([p["loss"] for p in points], 1),
        "curve_step": torch.tensor(predictor.curve_steps).expand(len(tasks), -1),
    }
    return {name: value.cpu() for name, value in ({"index": tasks.index} | points[-1] | curves | details).items()}


def gather(parts: Sequence[Scores]) -> Scores:
    """Gather the scores of all episodes from all ranks, each episode once, in the order of the episodes' numbers."""
    local = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}
    by_rank = [local]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        by_rank = [{}] * dist.get_world_size()
        dist.all_gather_object(by_rank, local)
    full = [part for part in by_rank if part]
    joined = {name: torch.cat([part[name] for part in full]) for name in full[0]}
    numbers, order = joined["index"].sort(stable=True)
    new = torch.cat([torch.ones(1, dtype=torch.bool), numbers[1:] != numbers[:-1]])  # ranks may have scored an episode twice
    return {name: value[order[new]] for name, value in joined.items()}


def interval_of(values: Tensor) -> dict[str, float | None]:
    """Mean and half-width of values (episodes,) in the form of a record."""
    return _plain(mean_interval(values.double().cpu().numpy()))


def _plain(interval: Interval) -> dict[str, float | None]:
    return {"mean": interval.mean, "half_width": interval.half_width}


def statistics_of(
    scores: Scores, problem: Problem, pooled: Mapping[str, Interval] = MappingProxyType({})
) -> dict[str, dict[str, object]]:
    """The problem's statistics beside the score, by name: mean, half-width and metric.

    A statistic in neither ``scores`` nor ``pooled`` is left out; ``pooled`` comes first.
    """
    statistics: dict[str, dict[str, object]] = {}
    for metric in problem.statistics:
        if metric.name in pooled:
            statistics[metric.name] = {**_plain(pooled[metric.name]), "metric": metric.as_dict()}
        elif metric.name in scores:
            statistics[metric.name] = {**interval_of(scores[metric.name]), "metric": metric.as_dict()}
    return statistics


def summary(scores: Scores, problem: Problem) -> dict[str, object]:
    """Mean and half-width over episodes of the scores and of every point of the curve, in the form of a record."""
    steps = scores["curve_step"][0].tolist()
    curve = [{"step": step, **interval_of(values)} for step, values in zip(steps, scores["curve"].unbind(1), strict=True)]
    returns = {"returns": _in_order(scores["returns"])} if "returns" in scores else {}
    return {
        "problem": problem.name,
        "metric": problem.metric.as_dict(),
        **interval_of(scores["score"]),
        "level": LEVEL,
        "others": statistics_of(scores, problem, problem.pooled(scores)),
        "curve": curve,
        **returns,
    }


def _in_order(values: Tensor) -> list[dict[str, float | None]]:
    """Points of values (tasks, queries) by their place: means of neighbours, at the place of the last of them."""
    count = values.shape[1]
    size = -(-count // _POINTS)
    ends = [*range(size, count, size), count]
    return [{"step": end, **interval_of(values[:, first:end].mean(1))} for first, end in zip([0, *ends], ends, strict=False)]


def table(scores: Scores) -> Mapping[str, list[float]]:
    """Columns of ``episodes.csv``: the scores that are one number for each episode."""
    return {name: values.tolist() for name, values in scores.items() if values.ndim == 1}
