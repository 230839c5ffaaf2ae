"""``search.json``: a search as plain data. Reports read only this file."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.problems.metric import Metric
from metaloop.records.jobs import DONE, FAILED, PRUNED, Job
from metaloop.records.schema import SEARCH_VERSION
from metaloop.report import formats
from metaloop.sweeps.search.search import Search
from metaloop.system.files import write_atomically

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from metaloop.sweeps.search.study import Study

FILE = "search.json"
_KINDS: Mapping[str, Callable[[str], Any]] = {"float": float, "int": int, "choice": str}
_STATES = {"COMPLETE": DONE, "PRUNED": PRUNED, "FAIL": FAILED}


def write_search(path: Path, study: "Study", search: Search, jobs: Mapping[str, Job], metric: Metric) -> dict[str, Any]:
    """Write the state of the search atomically, and return it."""
    from metaloop.sweeps.search.study import IMPORTANCE

    trials = [_trial(trial, study, search, job) for trial in study.trials() if (job := jobs.get(study.key_of(trial) or ""))]
    content = {
        "schema": SEARCH_VERSION,
        "metric": metric.as_dict(),
        "space": {key: asdict(one) for key, one in search.space.items()},
        "objectives": study.directions,
        "wanted": search.trials,
        "sampler": search.sampler,
        "seed": search.seed,
        "prune": search.prune,
        "trials": trials,
        "best": [trial.number for trial in study.best()],
        "importances": study.importances(),
        "importance_method": IMPORTANCE,
    }
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return content


def _trial(trial: "FrozenTrial", study: "Study", search: Search, job: Job) -> dict[str, Any]:
    """One trial as plain data. Its parameters have the rounded values of the run; choices are texts."""
    overrides = study.overrides_of(trial)
    complete = trial.state.name == "COMPLETE"
    return {
        "number": trial.number,
        "key": job.key,
        "directory": job.directory,
        "overrides": list(job.overrides),
        "params": {key: _KINDS[one.kind](overrides[key]) for key, one in search.space.items()},
        "state": _STATES.get(trial.state.name, job.state),
        "values": dict(zip(study.directions, trial.values, strict=True)) if complete and trial.values else None,
        "intermediate": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
    }


def validations(directory: Path) -> dict[int, float]:
    """Meta-validation scores of a run by outer step. The run may be writing the file; a partial row is left out."""
    try:
        text = (directory / "metrics.csv").read_text()
    except OSError:
        return {}
    scores = {}
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        if row.get("validation/score"):
            scores[int(row["step"])] = float(row["validation/score"])
    return scores


def value_text(objective: str, value: float | None, metric: Metric) -> str:
    """The value of an objective as text with its unit."""
    if objective == "validation":
        return f"meta-validation {metric.with_unit(metric.number(value))}"
    if objective == "tasks_per_second":
        return f"{formats.rate(value)} tasks/s"
    return formats.memory(value) if objective == "peak_memory" else formats.duration(value)
