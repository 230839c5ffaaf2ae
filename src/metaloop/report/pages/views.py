"""What a page says about one run, in the order in which it says it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from metaloop.records.runs import Run
from metaloop.report import formats
from metaloop.report.figures.pictures import Picture
from metaloop.report.paper import MARKS, PaperComparison, compare

_OTHERS = {
    "loss": "loss",
    "pooled_f1": "entity F1 over all episodes",
    "accuracy": "word accuracy",
    "recall": "macro recall",
    "f1": "macro F1",
    "calibration_error": "calibration error (ECE)",
    "log_likelihood": "log-likelihood of a query (nats)",
    "coverage": "coverage of 90 % bands",
    "rejection": "rejection of queries of no class, by probability (AUROC)",
    "rejection_by_logit": "rejection of queries of no class, by logit (AUROC)",
}


@dataclass(frozen=True)
class RunView:
    """One run's section.

    Attributes:
        title: the run's name, unique on the page.
        anchor: its id on the page.
        status: how it ended, where it did not simply finish; else empty.
        score: the headline; ``unit`` what it is measured in.
        under: the sentence below it: episodes, setting.
        against: label and text of what the score is compared with: baseline, published number.
        facts: name and value of everything else about the run.
        pictures: its figures.
        config: dotted key and value.
    """

    title: str
    anchor: str
    status: str
    score: str
    unit: str
    under: str
    against: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]
    pictures: Sequence[Picture]
    deviations: Sequence[str]
    config: Sequence[tuple[str, str]]


def run_view(run: Run, title: str, anchor: str, pictures: Sequence[Picture]) -> RunView:
    """Everything that the section of a run shows.

    Raises:
        UserError: the paper block is wrong.
    """
    test, metric = run.test, run.metric
    level = f"{100 * test['level']:g} % interval over {test['episodes']} meta-test episodes"
    status = run.record["status"]
    return RunView(
        title=title,
        anchor=anchor,
        status="" if status == "finished" else status,
        score=formats.score(test["mean"], test["half_width"], metric),
        unit=formats.metric_title(metric),
        under=f"{formats.setting(test['kind'], test['ways'], test['shots'])}, {level}",
        against=list(_against(run)),
        facts=[(name, value) for name, value in _facts(run) if value],
        pictures=pictures,
        deviations=list((run.paper or {}).get("deviations") or []),
        config=list(flatten(run.record["config"])),
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a nested config as (dotted key, value)."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


@cache
def templates() -> Environment:
    """The package's templates; whatever a record says is escaped."""
    return Environment(
        loader=PackageLoader("metaloop.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _against(run: Run) -> Iterator[tuple[str, str]]:
    metric, baseline, comparison = run.metric, run.test.get("baseline"), compare(run.record)
    if baseline:
        gap = formats.difference(run.test["mean"] - baseline["mean"], metric)
        text = formats.score(baseline["mean"], baseline.get("half_width"), metric)
        yield f"baseline: {baseline['name']}", f"{text} (difference {gap})"
    if comparison:
        yield _published(run, comparison)


def _published(run: Run, comparison: PaperComparison) -> tuple[str, str]:
    paper = run.paper or {}
    source = f"published: {paper['citation']}, {paper['table']}"
    verdict = f"difference {comparison.difference_text}, {comparison.verdict}"
    return source, f"{comparison.published_text} ({verdict}; {comparison.mark}: {MARKS[comparison.mark]})"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    record, test, training = run.record, run.test, run.training
    choices = record["choices"]
    for group in ("algorithm", "model", "dataset"):
        yield group, str(choices.get(group) or "")
    yield "split", test["split"]
    yield "queries", f"{test['queries']} a class" if test["kind"] == "classification" else str(test["queries"])
    yield "inner steps", "" if test.get("steps") is None else str(test["steps"])
    yield "norm mode", test["norm_mode"]
    yield "transductive", "yes" if test["transductive"] else "no"
    for name, label in _OTHERS.items():
        if name in test["others"] and not (name == "loss" and run.metric == "mse"):
            yield label, _other(test["others"][name])
    if oracle := test.get("oracle"):
        yield f"log-likelihood of the {oracle['name']}", _other(oracle["log_likelihood"])
    yield "seed", str(run.seed)
    yield "outer steps", f"{training['steps']:,}" if training.get("steps") is not None else ""
    yield "best outer step", f"{training['best_step']:,}" if training.get("best_step") is not None else ""
    yield "training time", formats.duration(training["wall_seconds"]) if training.get("wall_seconds") else ""
    yield "CPU time of training", formats.duration(training["cpu_seconds"]) if training.get("cpu_seconds") else ""
    yield "tasks/s", formats.rate(training["tasks_per_second"]) if training.get("tasks_per_second") else ""
    yield "peak memory", formats.memory(training["peak_memory_bytes"]) if training.get("peak_memory_bytes") else ""
    yield "over tasks", str(training.get("over_tasks") or "")
    yield from _origin(record)
    yield "directory", str(run.directory)


def _other(block: Mapping[str, Any]) -> str:
    half_width = block.get("half_width")
    return f"{block['mean']:.4f}" + ("" if half_width is None else f" ± {half_width:.4f}")


def _origin(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    git, hardware = record.get("git"), record.get("hardware") or {}
    yield "created", str(record.get("created") or "")[:16].replace("T", " ")
    yield "commit", f"{git['commit'][:12]}{' with uncommitted changes' if git['dirty'] else ''}" if git else "unknown"
    parts = [hardware.get("machine"), hardware.get("cpu"), hardware.get("gpu")]
    yield "hardware", ", ".join(str(part) for part in parts if part)
    yield "versions", ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items())
    yield "command", shlex.join(map(str, record.get("command") or []))
