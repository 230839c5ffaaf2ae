"""Scores of adapted learners, episode by episode."""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from metaloop.learners.learner import Learner
from metaloop.metrics import classification, entities, regression
from metaloop.metrics.interval import mean_interval
from metaloop.types import Examples, Tasks

_SCORES = {"classification": classification.episode_scores, "regression": regression.episode_scores}
# What is told beside the score.
_OTHERS = ("loss", "accuracy", "recall", "f1", "log_likelihood", "coverage", "rejection", "rejection_by_logit")
Scores = dict[str, Tensor]  # by name, stacked over episodes; "index" numbers them, "curve" is (episodes, points)


def episode_scores(kind: str, outputs: Tensor, query: Examples) -> Scores:
    """Every episode's scores, (tasks,) each.

    Of parts of sequences ``score`` is the entity F1, ``accuracy`` that of single examples, and there are
    :data:`entities.COUNTS`.

    Args:
        kind: "classification" or "regression".
        outputs: (tasks, queries, *output).
        query: what was asked.
    """
    found = _SCORES[kind](outputs, query.y, query.mask)
    if query.sequence is None:
        return found
    counts = entities.counts(outputs.argmax(-1), query.y, query.sequence, query.mask)
    named = dict(zip(entities.COUNTS, counts.T, strict=True))
    return found | {"accuracy": found["score"], "score": entities.f1(counts)} | named


def score(learner: Learner, tasks: Tasks, kind: str) -> Scores:
    """Adapt to the support sets and score the queries.

    Returns:
        ``index``, ``score`` (accuracy or entity F1 in [0, 1], or mean squared error), ``loss`` and, for classification,
        ``recall`` and ``f1``, of sequences ``accuracy`` and :data:`entities.COUNTS`, for predictive distributions
        ``log_likelihood`` and ``coverage`` (each (tasks,)); ``curve`` and ``loss_curve`` (tasks, points): score and loss before
        and after inner steps, whose numbers are in ``curve_step`` (tasks, points); for classification also ``confidence``
        (tasks, queries, ways) with ``label`` and ``real`` (tasks, queries). Where there are queries of no class, ``rejection``
        and ``rejection_by_logit`` (tasks,): how well the highest softmax probability and the highest logit (for prototypes
        minus the smallest distance) tell them from the others, as an area under the ROC curve. They are asked about on their
        own, so that no other score depends on them; which for transductive learners would compare answers of two different
        crowds, so these have no such score.
    """
    predictor = learner.adapt(tasks.support)
    query = tasks.query
    curve = predictor.curve(query.x, query.mask)
    points = [episode_scores(kind, outputs, query) for outputs in curve]
    aside: Scores = {}
    if kind == "classification":
        real = torch.ones_like(query.y, dtype=torch.bool) if query.mask is None else query.mask
        aside = {"confidence": F.softmax(curve[-1].float(), -1), "label": query.y, "real": real}
        if tasks.outside is not None and not learner.transductive:
            aside |= _rejection(curve[-1], predictor(tasks.outside), real)
    curves = {
        "curve": torch.stack([p["score"] for p in points], 1),
        "loss_curve": torch.stack([p["loss"] for p in points], 1),
        "curve_step": torch.tensor(predictor.curve_steps).expand(len(tasks), -1),
    }
    return {name: value.cpu() for name, value in ({"index": tasks.index} | points[-1] | curves | aside).items()}


def _rejection(inside: Tensor, outside: Tensor, real: Tensor) -> Scores:
    """The two rejection scores, from logits (tasks, queries, ways) and (tasks, outside, ways)."""
    inside, outside = inside.float(), outside.float()
    by_softmax = [F.softmax(logits, -1).amax(-1) for logits in (inside, outside)]
    return {
        "rejection": classification.area_under_roc(*by_softmax, real),
        "rejection_by_logit": classification.area_under_roc(inside.amax(-1), outside.amax(-1), real),
    }


def gather(parts: Sequence[Scores]) -> Scores:
    """All episodes' scores in order of their numbers, from all ranks where there are several; each episode once."""
    mine = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}
    everyone = [mine]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        everyone = [{}] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
    full = [part for part in everyone if part]
    joined = {name: torch.cat([part[name] for part in full]) for name in full[0]}
    order = torch.argsort(joined["index"])
    return {name: value[order] for name, value in joined.items()}


def summary(scores: Scores, kind: str) -> dict[str, object]:
    """The record's numbers: mean and half-width over episodes of the scores and of every point of the curve."""

    def interval(values: Tensor) -> dict[str, float | None]:
        found = mean_interval(values.double().numpy())
        return {"mean": found.mean, "half_width": found.half_width}

    others: dict[str, object] = {name: interval(scores[name]) for name in _OTHERS if name in scores}
    if kind == "classification":
        real = scores["real"]
        error = classification.calibration_error(scores["confidence"][real], scores["label"][real])
        others["calibration_error"] = {"mean": error, "half_width": None}
    metric = "accuracy" if kind == "classification" else "mse"
    if set(entities.COUNTS) <= set(scores):
        metric = "entity_f1"
        others["pooled_f1"] = interval(entities.pooled_f1(torch.stack([scores[name] for name in entities.COUNTS], 1)))
    steps = scores["curve_step"][0].tolist()
    curve = [{"step": step, **interval(values)} for step, values in zip(steps, scores["curve"].unbind(1), strict=True)]
    return {
        "kind": kind,
        "metric": metric,
        **interval(scores["score"]),
        "level": 0.95,
        "others": others,
        "curve": curve,
    }


def table(scores: Scores) -> Mapping[str, list[float]]:
    """The columns of episodes.csv."""
    return {name: scores[name].tolist() for name in ("index", "score", *_OTHERS, *entities.COUNTS) if name in scores}
