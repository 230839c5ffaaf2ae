"""Reading what runs left behind: records, episode scores, training metrics."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.records.tables import Columns, read_episodes, read_metrics

SCHEMA = 1
RECORD = "record.json"

_RECORD_KEYS = {"name": str, "status": str, "seed": int, "choices": dict, "config": dict, "test": dict}
_TEST_KEYS = {
    "kind": str, "metric": str, "split": str, "mean": float, "level": float, "episodes": int, "queries": int,
    "norm_mode": str, "transductive": bool, "others": dict, "curve": list,
}  # fmt: skip
METRICS = ("accuracy", "entity_f1", "mse")  # in the order in which pages show them
# Keys that do not change what is computed: the seed, where a run lies and who watched.
INCIDENTAL = {"seed", "name", "resume", "logger", "log_every", "workers", "hydra"}
_SETTINGS = ("kind", "metric", "split", "ways", "shots", "queries", "steps", "norm_mode", "transductive", "level")


@dataclass(frozen=True)
class Run:
    """One meta-tested run, or one later evaluation of it.

    Attributes:
        directory: where it lies.
        record: the whole of record.json.
        episodes: score of every meta-test episode by its number (accuracy in [0, 1] or mean squared error).
        metrics: training metrics, name to (outer steps, values); empty for a later evaluation.
    """

    directory: Path
    record: Mapping[str, Any]
    episodes: Mapping[int, float]
    metrics: Columns

    @cached_property
    def scores(self) -> np.ndarray:
        """(episodes,) scores by ascending episode number."""
        return np.array([self.episodes[index] for index in sorted(self.episodes)], dtype=np.float64)

    @cached_property
    def setting_key(self) -> str:
        """Equal for runs that differ in their seed, their name or who watched, but not in what was computed."""
        parts = [
            {key: value for key, value in self.record[block].items() if key not in INCIDENTAL}
            for block in ("choices", "config")
        ]
        test = {key: self.test.get(key) for key in _SETTINGS}
        return json.dumps([*parts, test, self._numbers], sort_keys=True, default=str)

    @cached_property
    def _numbers(self) -> str:
        """Of its episodes, in short."""
        return hashlib.sha256(np.array(sorted(self.episodes)).tobytes()).hexdigest()

    @property
    def episodes_key(self) -> str:
        """Equal where two runs met the same episodes."""
        return f"{self.stream_key} {self._numbers}"

    @cached_property
    def stream_key(self) -> str:
        """Equal where two runs' episodes of a number are the same: same data, split, size and stream of numbers."""
        test, record = self.test, self.record
        dataset = record["config"].get("dataset")
        if isinstance(dataset, Mapping):  # where a data set lies does not change its episodes
            dataset = {key: value for key, value in dataset.items() if not key.endswith("_dir")}
        data = [record["choices"].get("dataset"), dataset, test["split"], self.metric, test["level"]]
        size = [test["ways"], test["shots"], test["queries"]]
        return json.dumps([data, size, test.get("seed")], sort_keys=True, default=str)

    @property
    def test(self) -> Mapping[str, Any]:
        """The record's meta-test block."""
        return self.record["test"]

    @property
    def metric(self) -> str:
        """``"accuracy"``, ``"entity_f1"`` or ``"mse"``."""
        return self.test["metric"]

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.record["seed"]

    @property
    def training(self) -> Mapping[str, Any]:
        """The record's training block; empty where nothing was trained."""
        return self.record.get("training") or {}

    @property
    def paper(self) -> Mapping[str, Any] | None:
        """The record's paper block, where the run reproduces a published number."""
        return self.record.get("paper")

    @property
    def name(self) -> str:
        """The run's name, followed by the evaluation's where it is a later one."""
        is_later = self.directory.parent.name == "evaluations"
        return f"{self.record['name']} / {self.directory.name}" if is_later else self.record["name"]


def read_run(directory: Path) -> Run:
    """The run in a directory.

    Raises:
        UserError: a file is missing, broken, of another schema, or disagrees with the record; names the file.
    """
    path = directory / RECORD
    record = _read_json(path)
    _check_record(record, path)
    episodes = read_episodes(directory / "episodes.csv")
    _check_episodes(episodes, record["test"], directory / "episodes.csv")
    metrics = directory / "metrics.csv"
    return Run(directory, record, episodes, read_metrics(metrics) if metrics.is_file() else {})


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """All runs and later evaluations in and below some directories, in the order of their paths.

    Returns:
        The runs, and (path, reason) for everything that could not be read: one broken record does not hide the others.
    """
    runs: list[Run] = []
    failures: list[tuple[Path, str]] = []
    seen: set[Path] = set()
    for start in map(Path, paths):
        found = [start] if start.name == RECORD and start.is_file() else sorted(start.rglob(RECORD))
        if not found:
            reason = f"no {RECORD} in or below it" if start.exists() else "does not exist"
            failures.append((start, f"{reason}; give the directory of a finished run, or one that holds some"))
        for path in found:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                runs.append(read_run(path.parent))
            except UserError as error:
                failures.append((path.parent, str(error)))
    return runs, failures


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no readable record ({error}); a run writes it when its meta-test ends") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}: holds a {type(record).__name__} where a record is a mapping")
    return {**record, "test": by_name(record.get("test"))}


def by_name(block: Any) -> Any:
    """A block whose metric and problem are as written today, in the form that reports still read: metric name and kind."""
    if not isinstance(block, Mapping) or not isinstance(block.get("metric"), Mapping):
        return block
    kind, oracle = "regression" if block.get("problem") == "regression" else "classification", block.get("oracle")
    return {
        **block, "kind": kind, "metric": block["metric"]["name"], "oracle": oracle and {**oracle, **oracle["others"]}
    }  # fmt: skip


def _check_record(record: Mapping[str, Any], path: Path) -> None:
    if record.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: written with schema {record.get('schema')!r}, this version reads {SCHEMA}; "
            "evaluate the run again: metaloop evaluate run=DIR"
        )
    _check_types(record, _RECORD_KEYS, path, "")
    test = record["test"]
    _check_types(test, _TEST_KEYS, path, "test.")
    if test["metric"] not in METRICS:
        raise UserError(f"{path}: test.metric is {test['metric']!r}, one of {', '.join(METRICS)}")
    for key in ("half_width", "ways", "shots"):
        if key not in test:
            raise UserError(f"{path}: test.{key} is missing")


def _check_types(block: Mapping[str, Any], keys: Mapping[str, type], path: Path, prefix: str) -> None:
    for key, kind in keys.items():
        value = block.get(key)
        fits = isinstance(value, kind) or (kind is float and type(value) is int)
        if not fits or (kind is int and isinstance(value, bool)):
            raise UserError(f"{path}: {prefix}{key} is {value!r}, expected {kind.__name__}")


def _check_episodes(episodes: Mapping[int, float], test: Mapping[str, Any], path: Path) -> None:
    """A record and a table that disagree were not written by the same evaluation."""
    if len(episodes) != test["episodes"]:
        raise UserError(f"{path}: holds {len(episodes)} episodes, the record says {test['episodes']}")
    mean = sum(episodes.values()) / max(len(episodes), 1)
    if not math.isclose(mean, test["mean"], rel_tol=1e-4, abs_tol=1e-6) and math.isfinite(mean):
        raise UserError(f"{path}: the mean score is {mean:.6g}, the record says {test['mean']:.6g}")
