"""Finished sweeps as knowledge about a space: which settings were tried on other data sets, and how well they did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.jobs import DONE, LEDGER, Job, read_jobs
from metaloop.sweeps.search.search import Parameter

Params = Mapping[str, Any]  # value by key; choices are texts
_LEAST = 3  # settings that a sweep must have tried
_SPREAD = 0.1  # share of a range, or probability of another choice, by which a setting is changed


@dataclass(frozen=True)
class FinishedSweep:
    """The settings that a sweep tried, each once.

    Attributes:
        params: of each setting, its value by key of the space.
        scores: (settings,) normal scores of the meta-validation scores, higher is better; see :func:`normal_scores`.
    """

    params: Sequence[Params]
    scores: np.ndarray


def read_finished(folder: Path, space: Mapping[str, Parameter]) -> FinishedSweep:
    """Read the runs of a sweep or search that are done and whose settings are in the space.

    Settings that several runs tried, such as several seeds, count once with their mean.

    Raises:
        UserError: the folder is no sweep, or fewer than three settings of the space are done in it.
    """
    if not (folder / LEDGER).is_file():
        raise UserError(f"search.warm_start: {folder} is no sweep, it has no {LEDGER}")
    scores: dict[tuple[Any, ...], list[float]] = {}
    for job in read_jobs(folder):
        values, score = _values(job, space), _score(job)
        if values is not None and score is not None:
            scores.setdefault(values, []).append(score)
    if len(scores) < _LEAST:
        raise UserError(
            f"search.warm_start: {folder} has {len(scores)} finished settings in this search's space of {', '.join(space)}; at "
            f"least {_LEAST} are needed, so leave it out"
        )
    return finished_sweep([dict(zip(space, each, strict=True)) for each in scores], [np.mean(s) for s in scores.values()])


def finished_sweep(params: Sequence[Params], scores: Sequence[Any]) -> FinishedSweep:
    """Make a sweep from settings and their scores, higher is better, in any unit."""
    return FinishedSweep(list(params), normal_scores(np.array(scores, dtype=np.float64)))


def normal_scores(scores: np.ndarray) -> np.ndarray:
    """Replace scores (n,) by the normal quantiles of their ranks, the mean of those of equal scores.

    Sweeps on different data sets are then comparable, and a disastrous setting is no farther from a poor one than a good one
    from the best (Salinas et al. 2020, section 3).
    """
    from scipy import special, stats

    return np.asarray(special.ndtri((stats.rankdata(scores) - 0.5) / len(scores)))


def _values(job: Job, space: Mapping[str, Parameter]) -> tuple[Any, ...] | None:
    """The run's values in the order of the space; None if one is not set or not in the space."""
    given = dict(word.split("=", 1) for word in job.overrides if "=" in word)
    values: list[Any] = []
    for key, one in space.items():
        text = given.get(key)
        if text is None:
            return None
        if one.kind == "choice":
            if text not in one.choices:
                return None
            values.append(text)
            continue
        try:
            number = float(text)
        except ValueError:
            return None
        off = 0.0 if one.step is None else abs((number - one.low) / one.step - round((number - one.low) / one.step))
        if not one.low <= number <= one.high or off > 1e-9 or (one.kind == "int" and number != int(number)):
            return None
        values.append(int(number) if one.kind == "int" else number)
    return tuple(values)


def _score(job: Job) -> float | None:
    """The best meta-validation score of a run that is done, higher is better; None for others."""
    result = job.result or {}
    value = result.get("best_validation")
    if job.state != DONE or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return Metric.from_dict(result["metric"]).sign * float(value)


def encoded(params: Sequence[Params], space: Mapping[str, Parameter]) -> np.ndarray:
    """Settings as vectors (settings, features): ranges as numbers in [0, 1], on their scale, and choices as one-hot vectors."""
    columns = []
    for key, one in space.items():
        values = [each[key] for each in params]
        if one.kind == "choice":
            columns += [[float(value == choice) for value in values] for choice in one.choices]
            continue
        numbers, ends = np.array(values, dtype=np.float64), np.array([one.low, one.high], dtype=np.float64)
        if one.log:
            numbers, ends = np.log(numbers), np.log(ends)
        columns.append(((numbers - ends[0]) / (ends[1] - ends[0])).tolist())
    return np.array(columns).T


def drawn(space: Mapping[str, Parameter], random: np.random.Generator, near: Params | None = None) -> Params:
    """Draw a setting uniformly, each range on its scale; or one near another, about a tenth of each range away."""
    params: dict[str, Any] = {}
    for key, one in space.items():
        if one.kind == "choice":
            keeps = near is not None and random.random() > _SPREAD
            params[key] = near[key] if keeps and near is not None else one.choices[int(random.integers(len(one.choices)))]
            continue
        u = random.random()
        if near is not None:
            u = float(np.clip(encoded([near], {key: one})[0, 0] + random.normal(0, _SPREAD), 0.0, 1.0))
        value = one.low * (one.high / one.low) ** u if one.log else one.low + u * (one.high - one.low)
        step = one.step or (1 if one.kind == "int" else None)
        if step is not None:
            value = one.low + step * min(round((value - one.low) / step), int((one.high - one.low) / step + 1e-9))
        params[key] = int(value) if one.kind == "int" else float(value)
    return params
