"""Runs as reports read them: the record, the episodes' scores and the training's metrics."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.published import Paper
from metaloop.records.reading import read_record
from metaloop.records.schema import RECORD, MetaTest, Record, Training
from metaloop.records.tables import Array, Columns, read_episodes, read_metrics

# Keys in which runs of one setting may differ: the seed, names, remarks, directories, logging and workers.
INCIDENTAL = {"seed", "name", "notes", "paper", "resume", "logger", "log_every", "workers", "hydra"}


@dataclass(frozen=True)
class Run:
    """One meta-tested run, or one later evaluation of it.

    Attributes:
        directory: the run's directory.
        record: content of its record.json.
        episodes: score of every meta-test episode by its number, as stored.
        metrics: training metrics, name to (outer steps, values); empty for a later evaluation.
    """

    directory: Path
    record: Record
    episodes: Mapping[int, float]
    metrics: Columns

    @cached_property
    def scores(self) -> Array:
        """(episodes,) scores by ascending episode number."""
        return np.array([self.episodes[index] for index in sorted(self.episodes)], dtype=np.float64)

    @cached_property
    def setting_key(self) -> str:
        """Key of the setting: equal for runs that differ in keys of ``INCIDENTAL`` alone, such as the seed."""
        parts = [
            {key: value for key, value in block.items() if key not in INCIDENTAL}
            for block in (self.record.choices, self.record.config)
        ]
        test = self.test
        size = [test.ways, test.shots, test.queries, test.steps]
        setting = [test.problem, test.metric.name, test.split, *size, test.norm_mode, test.transductive, test.level]
        return json.dumps([*parts, setting, self._numbers], sort_keys=True, default=str)

    @cached_property
    def _numbers(self) -> str:
        """Hash of the episodes' numbers."""
        return hashlib.sha256(np.array(sorted(self.episodes)).tobytes()).hexdigest()

    @property
    def episodes_key(self) -> str:
        """Key of the episodes: equal for runs that were tested on the same ones."""
        return f"{self.stream_key} {self._numbers}"

    @cached_property
    def stream_key(self) -> str:
        """Key of the stream of episodes: equal for runs whose episodes of the same number are the same.

        It covers the data, split, size, metric and seed of the stream.
        """
        test, dataset = self.test, self.record.config.get("dataset")
        if isinstance(dataset, Mapping):  # neither a data set's location nor its class's module changes its episodes
            dataset = {key: _without_module(key, value) for key, value in dataset.items() if not key.endswith("_dir")}
        data = [self.record.choices.get("dataset"), dataset, test.split, test.metric.name, test.level]
        size = [test.ways, test.shots, test.queries]
        return json.dumps([data, size, test.seed], sort_keys=True, default=str)

    @property
    def test(self) -> MetaTest:
        """The record's meta-test block."""
        return self.record.test

    @property
    def metric(self) -> Metric:
        """Metric of the meta-test score."""
        return self.record.test.metric

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.record.seed

    @property
    def training(self) -> Training | None:
        """The record's training block; None if nothing was trained."""
        return self.record.training

    @property
    def paper(self) -> Paper | None:
        """The published number that the run reproduces; None if it reproduces none."""
        return self.record.paper

    @property
    def is_later_evaluation(self) -> bool:
        """Whether this is a further evaluation of a run rather than the run itself."""
        return self.directory.parent.name == "evaluations"

    @property
    def name(self) -> str:
        """The run's name; for a later evaluation, followed by the name of the evaluation."""
        return f"{self.record.name} / {self.directory.name}" if self.is_later_evaluation else self.record.name


def read_run(directory: Path) -> Run:
    """Read the run in a directory.

    Raises:
        UserError: a file is missing, broken, of another schema, or disagrees with the record; names the file.
    """
    record = read_record(directory)
    path = directory / "episodes.csv"
    episodes = read_episodes(path)
    _check_episodes(episodes, record.test, path)
    metrics = directory / "metrics.csv"
    return Run(directory, record, episodes, read_metrics(metrics) if metrics.is_file() else {})


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """Find all runs and later evaluations in and below some directories, in the order of their paths.

    Returns:
        The runs, and (path, reason) for everything that could not be visited. One broken record does not hide the others.
    """
    runs: list[Run] = []
    failures: list[tuple[Path, str]] = []
    visited: set[Path] = set()
    for start in map(Path, paths):
        records = [start] if start.name == RECORD and start.is_file() else sorted(start.rglob(RECORD))
        if not records:
            reason = f"no {RECORD} in or below it" if start.exists() else "does not exist"
            failures.append((start, f"{reason}; give the directory of a finished run, or a folder that contains some"))
        for path in records:
            if path.resolve() in visited:
                continue
            visited.add(path.resolve())
            try:
                runs.append(_finished(read_run(path.parent)))
            except UserError as error:
                failures.append((path.parent, str(error)))
    return runs, failures


def _finished(run: Run) -> Run:
    """Return the run, unless it evaluates a training that has not finished.

    Raises:
        UserError: the training has not finished.
    """
    if not run.is_later_evaluation:
        return run
    training_directory = run.directory.resolve().parents[1]  # the path that was given may be shorter
    if not (training_directory / RECORD).exists():
        raise UserError(
            f"{run.directory} evaluates a training that has not finished, so it is not compared with others; "
            f"finish it with: metaloop train resume={training_directory}"
        )
    return run


def _check_episodes(episodes: Mapping[int, float], test: MetaTest, path: Path) -> None:
    """Check that a record and a table were written by the same evaluation.

    Raises:
        UserError: they disagree in the number of episodes or in the mean score.
    """
    if len(episodes) != test.episodes:
        raise UserError(f"{path}: holds {len(episodes)} episodes, the record says {test.episodes}")
    mean = sum(episodes.values()) / max(len(episodes), 1)
    if not math.isclose(mean, test.mean, rel_tol=1e-4, abs_tol=1e-6) and math.isfinite(mean):
        raise UserError(f"{path}: the mean score is {mean:.6g}, the record says {test.mean:.6g}")


def _without_module(key: str, value: object) -> object:
    """Return a config value; of the path of a class of metaloop's own, which may move, only the class's name."""
    own = key == "_target_" and isinstance(value, str) and value.startswith("metaloop.")
    return str(value).rpartition(".")[2] if own else value
