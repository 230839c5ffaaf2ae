"""``search.json``: a search as plain data, which is all that reports read of it."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.problems.metric import Metric
from metaloop.report import formats
from metaloop.sweeps.ledger import DONE, FAILED, PRUNED, Job
from metaloop.sweeps.search import Search
from metaloop.system.files import write_atomically

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from metaloop.sweeps.search_study import Study

FILE = "search.json"
SCHEMA = 1
_KINDS: Mapping[str, Callable[[str], Any]] = {"float": float, "int": int, "choice": str}
_STATES = {"COMPLETE": DONE, "PRUNED": PRUNED, "FAIL": FAILED}


def write_search(path: Path, study: "Study", search: Search, jobs: Mapping[str, Job], metric: Metric) -> dict[str, Any]:
    """Write what is known of the search, atomically; returns it."""
    from metaloop.sweeps.search_study import IMPORTANCE

    trials = [_trial(trial, study, search, jobs[key]) for trial in study.trials() if (key := study.key_of(trial)) in jobs]
    told = {
        "schema": SCHEMA,
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
    write_atomically(path, json.dumps(told, indent=1) + "\n")
    return told


def _trial(trial: "FrozenTrial", study: "Study", search: Search, job: Job) -> dict[str, Any]:
    """One trial; its parameters are those that ran, numbers as numbers and choices as they are typed."""
    typed = study.typed(trial)
    complete = trial.state.name == "COMPLETE"
    return {
        "number": trial.number,
        "key": job.key,
        "directory": job.directory,
        "overrides": list(job.overrides),
        "params": {key: _KINDS[one.kind](typed[key]) for key, one in search.space.items()},
        "state": _STATES.get(trial.state.name, job.state),
        "values": dict(zip(study.directions, trial.values, strict=True)) if complete and trial.values else None,
        "intermediate": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
    }


def validations(directory: Path) -> dict[int, float]:
    """Meta-validation scores by outer step of a run that may be writing at this moment; a half-written row is left out."""
    try:
        text = (directory / "metrics.csv").read_text()
    except OSError:
        return {}
    found = {}
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        if row.get("validation/score"):
            found[int(row["step"])] = float(row["validation/score"])
    return found


def shown(objective: str, value: float | None, metric: Metric) -> str:
    """An objective's value as people read it."""
    if objective == "validation":
        return f"meta-validation {metric.with_unit(metric.number(value))}"
    if objective == "tasks_per_second":
        return f"{formats.rate(value)} tasks/s"
    return formats.memory(value) if objective == "peak_memory" else formats.duration(value)
