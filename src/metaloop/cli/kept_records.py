"""Records of finished runs as the repository keeps them: without checkpoints and pages, and with no path of a machine."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.reading import read_record
from metaloop.records.schema import FINISHED, RECORD, Record
from metaloop.report.tables.published import Experiment
from metaloop.system.files import write_atomically

_TABLES = ("episodes.csv", "metrics.csv")
_FOLDERS = ("hydra.run.dir=", "hydra.sweep.dir=")  # words of a command that say where the run was written
_DATA = "data"  # a record's folder of data, relative to where one works


def finished_runs(folder: Path, experiments: Mapping[str, Experiment]) -> Iterator[tuple[Path, Record, Experiment]]:
    """Find the finished runs of experiments in and below a folder, without their later evaluations.

    Raises:
        UserError: the folder does not exist, or a record cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; metaloop sweep reproduction makes outputs/sweeps/reproduction")
    for path in sorted(folder.rglob(RECORD)):
        if path.parent.parent.name != "evaluations":
            record = read_record(path.parent)
            experiment = experiments.get(str(record.choices.get("experiment")))
            if experiment is not None and record.status == FINISHED:
                yield path.parent, record, experiment


def evaluate_further(directory: Path, experiment: Experiment) -> None:
    """Evaluate a finished run in every further setting that its experiment lists and that has no evaluation yet.

    Raises:
        UserError: an evaluation is refused.
    """
    from metaloop.evaluation.evaluate import evaluate, evaluation_of
    from metaloop.records.writing import write_record

    further = experiment.paper.also if experiment.paper else {}
    for key, one in further.items():
        if one.overrides and evaluation_of(directory, one.overrides) is None:
            print(f"{experiment.name} / {key}: metaloop evaluate run={directory} {' '.join(one.overrides)}", flush=True)
            record, target = evaluate(directory, one.overrides)
            write_record(target, record)


def keep(directory: Path, record: Record, experiment: Experiment, root: Path) -> Path:
    """Copy record and tables of a run, and of the evaluations that its experiment lists, to ``root/EXPERIMENT/seedN``.

    Returns:
        The folder of the copies.
    """
    from metaloop.evaluation.evaluate import evaluation_of

    target = root / experiment.name / f"seed{record.seed}"
    if target.is_dir():
        shutil.rmtree(target)  # an earlier run of the same row
    _copy(directory, target, f"{experiment.name}/seed{record.seed}")
    further = experiment.paper.also if experiment.paper else {}
    for key, one in further.items():
        source = evaluation_of(directory, one.overrides) if one.overrides else None
        if source is not None:
            _copy(source, target / "evaluations" / key, f"{experiment.name}/seed{record.seed}")
    return target


def _copy(source: Path, target: Path, name: str) -> None:
    target.mkdir(parents=True)
    record = json.loads((source / RECORD).read_text())
    write_atomically(target / RECORD, json.dumps(_without_places(record, name), indent=1) + "\n")
    for table in _TABLES:
        if (source / table).is_file():
            shutil.copyfile(source / table, target / table)


def _without_places(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The record with paths of data relative to ``data``, the run of an evaluation under its kept name, and no run folder."""
    dataset = record["config"].get("dataset") or {}
    for key, value in dataset.items():
        if key.endswith("_dir") and isinstance(value, str) and Path(value).is_absolute():
            dataset[key] = f"{_DATA}/{Path(value).name}"
    for key in ("command", "overrides"):
        words = (f"run={name}" if word.startswith("run=") else word for word in record[key])
        record[key] = [word for word in words if not word.startswith(_FOLDERS)]
    return record
