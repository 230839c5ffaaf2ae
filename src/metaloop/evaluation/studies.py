"""Evaluation of the finished runs of a study, and what is kept of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.evaluation.evaluate import evaluate, evaluation_of
from metaloop.evaluation.inspection import FOLDER, measured_with
from metaloop.records.directory import minutes_of
from metaloop.records.runs import Run, read_run
from metaloop.records.studies import Evaluated, Facts, StudiedRun, StudyRecord
from metaloop.records.writing import write_record
from metaloop.system.files import write_atomically

CHECKPOINT = "checkpoint"  # key of an evaluation's settings that is no key of the config
_KEPT = ("points", "episodes", "score", "parts", "representations", "parameters", "adapted", "level")  # of an inspection
Settings = Mapping[str, str]


def evaluate_settings(directory: Path, settings: Sequence[Settings]) -> Iterator[tuple[Settings, Run]]:
    """Evaluate a finished run in each of these settings, unless it has been already.

    A ``checkpoint`` such as ``minutes-*.ckpt`` stands for all that the run kept, in the order of their minutes.

    Raises:
        UserError: an evaluation is refused.
    """
    for each in [one for setting in settings for one in _at_checkpoints(directory, setting)]:
        checkpoint = each.get(CHECKPOINT)
        words = [f"{key}={value}" for key, value in each.items()]
        target = evaluation_of(directory, words)
        if target is None:
            print(f"evaluate  run={directory} {' '.join(words)}", flush=True)
            others = [word for word in words if not word.startswith(f"{CHECKPOINT}=")]
            record, target = evaluate(directory, others, checkpoint=checkpoint)
            write_record(target, record)
        yield each, read_run(target)


def _at_checkpoints(directory: Path, settings: Settings) -> list[Settings]:
    if CHECKPOINT not in settings:
        return [settings]
    paths = (directory / "checkpoints").glob(settings[CHECKPOINT])
    return [{**settings, CHECKPOINT: path.name} for path in sorted(paths, key=lambda path: minutes_of(path.name))]


def inspected(directory: Path, count: int, settings: Settings) -> dict[str, Any]:
    """Inspect a finished run in a setting, unless it has been already; the measures that a study keeps."""
    words = [f"{key}={value}" for key, value in settings.items()]
    path = directory / FOLDER / "study.json"
    if path.is_file() and (kept := json.loads(path.read_text()))["settings"] == [count, *words]:
        return dict(kept["measured"])
    print(f"inspect   {directory} {' '.join(words)}", flush=True)
    measured = {key: value for key, value in measured_with(directory, count, words).items() if key in _KEPT}
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps({"settings": [count, *words], "measured": measured}) + "\n")
    return measured


def study_record(
    name: str,
    command: Sequence[str],
    runs: Sequence[tuple[Settings, Run, Mapping[str, Any] | None]],
    evaluations: Sequence[tuple[int, Settings, Run]],
) -> StudyRecord:
    """Put together what is kept of a study.

    Args:
        name: Name of the study.
        command: The command that made it.
        runs: Of each training what tells it apart, its run, and its inspection or None.
        evaluations: Of each evaluation the number of its training, its settings and its scores.

    Raises:
        UserError: nothing was evaluated, or the scores are of several metrics.
    """
    metrics = {run.metric for _, _, run in evaluations}
    if len(metrics) != 1:
        raise UserError(f"the study {name} has evaluations of {len(metrics)} metrics; it needs one, of finished runs")
    columns = [f"{run}.{number}" for number, (run, _, _) in enumerate(evaluations)]
    facts = Facts(
        name,
        tuple(command),
        metrics.pop(),
        tuple(_studied(*each) for each in runs),
        tuple(_evaluated(column, *each) for column, each in zip(columns, evaluations, strict=True)),
    )
    return StudyRecord(facts, {column: run.scores for column, (_, _, run) in zip(columns, evaluations, strict=True)})


def _studied(settings: Settings, run: Run, inspection: Mapping[str, Any] | None) -> StudiedRun:
    record, training = run.record, run.record.training
    return StudiedRun(
        settings=dict(settings),
        overrides=record.overrides,
        seed=record.seed,
        steps=training.steps if training else 0,
        meta_batch=record.config["outer"]["meta_batch"],
        wall_seconds=training.wall_seconds if training else None,
        cpu_seconds=training.cpu_seconds if training else None,
        hardware=record.hardware,
        commit=record.git.commit if record.git else None,
        inspection=inspection,
    )


def _evaluated(column: str, number: int, settings: Settings, run: Run) -> Evaluated:
    test = run.test
    start = test.curve[0].mean if len(test.curve) > 1 else None
    return Evaluated(
        number, dict(settings), column, test.setting, test.queries, test.steps, test.norm_mode, test.transductive, start
    )
