"""Rows of a results table: runs that differ only in their seed form one row."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np

from metaloop.errors import UserError
from metaloop.metrics.interval import Interval, Spread, mean_interval, seed_spread
from metaloop.problems.metric import Metric
from metaloop.records.runs import INCIDENTAL, Run
from metaloop.records.schema import Training
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.paper import PaperComparison, at_published_step, compare, published_metric


@dataclass(frozen=True)
class Row:
    """One setting, trained with one seed or several.

    Attributes:
        runs: the runs by ascending seed, each seed once, all on the same episodes.
        label: a name that no other row has.
    """

    runs: tuple[Run, ...]
    label: str

    @property
    def first(self) -> Run:
        """The run with the smallest seed; all runs are the same in everything but their scores."""
        return self.runs[0]

    @cached_property
    def interval(self) -> Interval:
        """Mean score and its interval over episodes; an episode's score is its mean over seeds."""
        return mean_interval(self.scores, self.first.test.level)

    @cached_property
    def scores(self) -> Array:
        """(episodes,) scores by ascending episode number, each the mean over seeds."""
        return np.asarray(np.mean([run.scores for run in self.runs], axis=0))

    @property
    def spread(self) -> Spread:
        """Mean and standard deviation over seeds."""
        return seed_spread([run.test.mean for run in self.runs])

    def choice(self, group: str) -> str:
        """Choice of the config group, such as ``maml`` for ``algorithm``."""
        return str(self.first.record.choices.get(group) or formats.NONE)

    @property
    def setting(self) -> str:
        """Size of an episode, such as ``5-way 1-shot``."""
        return self.first.test.setting

    @property
    def metric(self) -> Metric:
        """Metric of the score; the same for all runs."""
        return self.first.metric

    @cached_property
    def measured(self) -> tuple[float, float | None]:
        """Mean over seeds in the published metric after the published number of inner steps, and its half-width if known.

        Raises:
            UserError: an adaptation curve does not reach the published step.
        """
        paper = self.first.paper
        if paper is None or (paper.step is None and published_metric(paper, self.first.test) == self.metric):
            return self.interval.mean, self.interval.half_width
        points = [at_published_step(run.record) for run in self.runs]
        return sum(point.mean for point in points) / len(points), points[0].half_width if len(points) == 1 else None

    @cached_property
    def comparison(self) -> PaperComparison | None:
        """Comparison of the mean over seeds with the paper; None without a paper.

        Raises:
            UserError: the paper block is wrong; names the run's directory.
        """
        try:
            return compare(self.first.record, self.measured[0])
        except UserError as error:
            raise UserError(f"{self.first.directory}: {error}") from error

    @property
    def _trainings(self) -> list[Training]:
        return [run.training for run in self.runs if run.training is not None]

    @property
    def tasks_per_second(self) -> float | None:
        """Meta-training speed, the mean over seeds."""
        rates = [training.tasks_per_second for training in self._trainings if training.tasks_per_second]
        return fmean(rates) if rates else None

    @property
    def training_seconds(self) -> float | None:
        """Wall time of meta-training, the mean over seeds."""
        times = [training.wall_seconds for training in self._trainings if training.wall_seconds]
        return fmean(times) if times else None

    @property
    def peak_memory(self) -> int | None:
        """The largest peak of any seed, in bytes."""
        return max((training.peak_memory_bytes for training in self._trainings if training.peak_memory_bytes), default=None)


def group_rows(runs: Iterable[Run]) -> list[Row]:
    """Group runs into rows, in the order of each row's first run.

    A second run of the same setting and seed is not a new seed; it becomes a row of its own.
    """
    groups: dict[tuple[str, str], list[list[Run]]] = {}
    for run in runs:
        rows = groups.setdefault((run.name, run.setting_key), [])
        free = next((row for row in rows if run.seed not in {other.seed for other in row}), None)
        rows.append([run]) if free is None else free.append(run)
    ordered = [tuple(sorted(row, key=lambda run: run.seed)) for rows in groups.values() for row in rows]
    return _label([Row(row, row[0].name) for row in ordered])


def _label(rows: Sequence[Row]) -> list[Row]:
    """Make labels unique: rows of the same name get the facts in which they differ, or else a number."""
    labelled = []
    for row in rows:
        twins = [other for other in rows if other.label == row.label]
        if len(twins) == 1:
            labelled.append(row)
            continue
        shared = set.intersection(*(set(_overrides(twin)) for twin in twins))
        facts = [_facts(twin, shared) for twin in twins]
        differing = [key for key in facts[0] if len({fact[key] for fact in facts}) > 1]
        details = ", ".join(_facts(row, shared)[key] for key in differing)
        labelled.append(replace(row, label=f"{row.label} ({details})" if details else row.label))
    names = [row.label for row in labelled]
    numbers = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return [
        row if names.count(row.label) == 1 else replace(row, label=f"{row.label} #{number}")
        for row, number in zip(labelled, numbers, strict=True)
    ]


def _overrides(row: Row) -> list[str]:
    """The overrides without those that change nothing, nor settings within these, such as ``hydra.run.dir``."""
    return [text for text in row.first.record.overrides if re.split("[=./]", text)[0] not in INCIDENTAL]


def _facts(row: Row, shared: set[str]) -> dict[str, str]:
    """Facts that may distinguish rows of one label; overrides that all of these rows share are left out."""
    test = row.first.test
    overrides = [text for text in _overrides(row) if text not in shared]
    return {
        "algorithm": row.choice("algorithm"),
        "model": row.choice("model"),
        "dataset": row.choice("dataset"),
        "setting": row.setting,
        "steps": f"{test.steps} steps",
        "norm": f"norm {test.norm_mode}",
        "overrides": " ".join(overrides),
    }
