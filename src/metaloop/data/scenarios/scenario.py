"""Scenarios in the layout of ASlib (Bischl et al. 2016), read from a folder or a zip archive."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import yaml

from metaloop.data.scenarios.arff import Arff, read_arff
from metaloop.errors import UserError

DESCRIPTION, RUNS, FEATURES, FOLDS = "description.txt", "algorithm_runs.arff", "feature_values.arff", "cv.arff"
_NAMED = 3  # missing things that a message names


@dataclass(frozen=True)
class Scenario:
    """How well each algorithm does on each instance; in meta-learning, each learner on each data set.

    Attributes:
        name: identifier of the scenario.
        instances: names of the data sets.
        algorithms: names of the learners.
        features: names of the meta-features.
        x: (instances, features) float64 meta-features, nan where they are unknown.
        y: (instances, algorithms) float64 performances, higher is better.
        folds: (instances,) fold of each data set in the scenario's cross-validation, from 0.
        measure: name of the performance measure.
    """

    name: str
    instances: tuple[str, ...]
    algorithms: tuple[str, ...]
    features: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    folds: np.ndarray
    measure: str


def read_scenario(path: Path) -> Scenario:
    """Read a scenario.

    Args:
        path: its folder, or a zip archive of it.

    Raises:
        UserError: a file is missing or broken, the scenario measures running times, a run is missing or not ``ok``, or a data
            set has no meta-feature or no fold. The message says what to change.
    """
    files = _files(path)
    description = _description(files[DESCRIPTION], path)
    name, measure = str(description["scenario_id"]), str(description["performance_measures"][0])
    runs, features, folds = (read_arff(files[each], f"{path}: {each}") for each in (RUNS, FEATURES, FOLDS))
    instances, algorithms, y = _performances(runs, measure, description)
    names, x = _features(features, instances)
    maximize = bool(description["maximize"][0])
    return Scenario(name, instances, algorithms, names, x, y if maximize else -y, _folds(folds, instances), measure)


def _files(path: Path) -> dict[str, str]:
    """Texts of the scenario's files by name."""
    wanted = (DESCRIPTION, RUNS, FEATURES, FOLDS)
    try:
        if path.is_dir():
            return {name: (path / name).read_text(encoding="utf-8") for name in wanted}
        with ZipFile(path) as archive:
            inside = {Path(name).name: name for name in archive.namelist() if not name.startswith("__MACOSX")}
            return {name: archive.read(inside[name]).decode() for name in wanted}
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} does not exist. There is no download command: put a scenario of ASlib there (a folder or its "
            f"zip archive, with {', '.join(wanted)}; each scenario names its authors and licence), or set dataset.path"
        ) from error
    except (BadZipFile, KeyError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is broken or no scenario of ASlib: {error}") from error


def _description(text: str, path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
        kind, keys = content["performance_type"][0], ("scenario_id", "performance_measures", "maximize", "metainfo_algorithms")
        missing = [key for key in keys if not content.get(key)]
    except (yaml.YAMLError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: {DESCRIPTION} is broken: {error!r}") from error
    if missing:
        raise UserError(f"{path}: {DESCRIPTION} lacks {', '.join(missing)}")
    if kind != "solution_quality":
        raise UserError(
            f"{path}: performance_type is {kind}; only solution_quality is read, since running times need penalties and "
            f"costs of features. Choose another scenario with dataset.path"
        )
    return dict(content)


def _performances(runs: Arff, measure: str, description: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Data sets, learners and the mean performance over repetitions."""
    known = description["metainfo_algorithms"]
    algorithms = tuple(map(str, known))
    ids, learners = runs.column("instance_id"), runs.column("algorithm")
    instances = tuple(dict.fromkeys(ids))
    total, count = (np.zeros((len(instances), len(algorithms))) for _ in range(2))
    place = {name: number for number, name in enumerate(instances)}
    cells = zip(ids, learners, runs.numbers(measure), runs.column("runstatus"), runs.lines, strict=True)
    for instance, learner, value, status, line in cells:
        if learner not in algorithms:
            raise UserError(f"{runs.name}, line {line}: the learner {learner!r} is not in metainfo_algorithms of {DESCRIPTION}")
        if status != "ok" or np.isnan(value):
            raise UserError(
                f"{runs.name}, line {line}: the run of {learner} on {instance} has no result (runstatus {status}, {measure} "
                f"{value}); leave out the learner or the data set, or fill in its performance"
            )
        total[place[instance], algorithms.index(learner)] += value
        count[place[instance], algorithms.index(learner)] += 1
    absent = [f"{algorithms[column]} on {instances[row]}" for row, column in np.argwhere(count == 0)]
    if absent:
        raise UserError(
            f"{runs.name}: {len(absent)} runs are missing, such as {'; '.join(absent[:_NAMED])}; every learner needs a run on "
            f"every data set"
        )
    return instances, algorithms, total / count


def _features(values: Arff, instances: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values of the meta-features, in the order of the data sets; the mean over repetitions."""
    names = tuple(name for name in values.columns if name not in ("instance_id", "repetition"))
    table = np.column_stack([values.numbers(name) for name in names])
    x = np.full((len(instances), len(names)), np.nan)
    rows: dict[str, list[int]] = {}
    for number, instance in enumerate(values.column("instance_id")):
        rows.setdefault(instance, []).append(number)
    for number, instance in enumerate(instances):
        mine = table[rows.get(instance, [])]
        known = ~np.isnan(mine)
        if not known.any():
            raise UserError(f"{values.name}: no meta-feature of {instance} is known; leave the data set out of all files")
        x[number] = np.where(known.any(0), np.where(known, mine, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    return names, x


def _folds(table: Arff, instances: tuple[str, ...]) -> np.ndarray:
    """Fold of each data set in the first repetition, from 0."""
    repetitions = table.numbers("repetition")
    first = min(repetitions, default=1)
    fold = {
        instance: number
        for instance, number, repetition in zip(table.column("instance_id"), table.numbers("fold"), repetitions, strict=True)
        if repetition == first
    }
    lost = [name for name in instances if np.isnan(fold.get(name, np.nan))]
    if lost:
        raise UserError(f"{table.name}: {len(lost)} data sets have no fold, such as {', '.join(lost[:_NAMED])}")
    numbers = np.array([int(fold[name]) for name in instances])
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise UserError(f"{table.name}: all data sets are in one fold; a cross-validation needs two or more")
    return np.searchsorted(distinct, numbers)
