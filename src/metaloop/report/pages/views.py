"""Content of a run's section on a page, in the order of the page."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from metaloop.records.explanations import read_explanation
from metaloop.records.runs import Run
from metaloop.records.schema import FINISHED, Record
from metaloop.report import formats
from metaloop.report.figures.pictures import Picture
from metaloop.report.paper import MARKS, PaperComparison, compare


@dataclass(frozen=True)
class RunView:
    """Content of a run's section.

    Attributes:
        title: the run's name, unique on the page.
        anchor: its id on the page.
        status: how the training ended, if it did not finish; else empty.
        score: the score, as the headline.
        unit: name and unit of the metric.
        under: the line below the score: setting and interval.
        against: (label, text) of the baseline and the published number.
        facts: (name, value) of the run's other settings and results.
        pictures: figures of the run.
        tree: lines of the learner's decision tree; empty without one.
        tree_of: number of examples that the tree was fitted to.
        deviations: differences from the paper's set-up.
        config: (dotted key, value) of the resolved config.
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
    tree: Sequence[str]
    tree_of: int
    deviations: Sequence[str]
    config: Sequence[tuple[str, str]]


def run_view(run: Run, title: str, anchor: str, pictures: Sequence[Picture]) -> RunView:
    """Collect the content of a run's section.

    Raises:
        UserError: the paper block or the learner's explanation is wrong.
    """
    test, metric = run.test, run.metric
    level = f"{formats.percent(test.level)} interval over {test.episodes} meta-{test.split} episodes"
    status = run.record.status
    explanation = read_explanation(run.directory)
    return RunView(
        title=title,
        anchor=anchor,
        status="" if status == FINISHED else status,
        score=metric.interval(test.mean, test.half_width),
        unit=metric.heading,
        under=f"{test.setting}, {level}",
        against=list(_against(run)),
        facts=[(name, value) for name, value in _facts(run) if value],
        pictures=pictures,
        tree=() if explanation is None else explanation.tree,
        tree_of=0 if explanation is None else explanation.examples,
        deviations=run.paper.deviations if run.paper else (),
        config=list(flatten(run.record.config)),
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over the leaves of a nested config as (dotted key, value)."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


@cache
def templates() -> Environment:
    """The package's templates; all inserted text is escaped."""
    return Environment(
        loader=PackageLoader("metaloop.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _against(run: Run) -> Iterator[tuple[str, str]]:
    metric, baseline, comparison = run.metric, run.test.baseline, compare(run.record)
    if baseline:
        gap = metric.difference(run.test.mean - baseline.mean)
        text = metric.interval(baseline.mean, baseline.half_width)
        yield f"baseline: {baseline.name}", f"{text} (difference {gap})"
    if comparison:
        yield _published(comparison)


def _published(comparison: PaperComparison) -> tuple[str, str]:
    paper = comparison.paper
    source = f"published: {paper.citation}, {paper.table}"
    verdict = f"difference {comparison.difference_text}, {comparison.verdict}"
    return source, f"{comparison.published_text} ({verdict}; {paper.mark}: {MARKS[paper.mark]})"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    record, test = run.record, run.test
    for group in ("algorithm", "model", "dataset"):
        yield group, str(record.choices.get(group) or "")
    yield "split", test.split
    yield "queries", str(test.queries) if test.ways == 1 else f"{test.queries} per class"
    yield f"{test.curve_over}s", "" if test.steps is None else str(test.steps)
    yield "norm mode", test.norm_mode
    yield "transductive", "yes" if test.transductive else "no"
    for value in test.others.values():
        yield value.metric.title, formats.statistic(value)
    if oracle := test.oracle:
        for value in oracle.others.values():
            yield f"{value.metric.title}: {oracle.name}", formats.statistic(value)
    yield "seed", str(run.seed)
    yield from _training_facts(run)
    yield from _origin(record)
    yield "directory", str(run.directory)


def _training_facts(run: Run) -> Iterator[tuple[str, str]]:
    training = run.training
    if training is None:
        return
    yield "outer steps", f"{training.steps:,}"
    yield "best outer step", f"{training.best_step:,}"
    yield "training time", formats.duration(training.wall_seconds) if training.wall_seconds else ""
    yield "CPU time of training", formats.duration(training.cpu_seconds) if training.cpu_seconds else ""
    yield "tasks/s", formats.rate(training.tasks_per_second) if training.tasks_per_second else ""
    yield "peak memory", formats.memory(training.peak_memory_bytes) if training.peak_memory_bytes else ""
    yield "over tasks", training.over_tasks


def _origin(record: Record) -> Iterator[tuple[str, str]]:
    git, hardware = record.git, record.hardware
    if record.config.get("notes"):
        yield "notes", str(record.config["notes"])
    yield "created", record.created[:16].replace("T", " ")
    yield "commit", f"{git.commit[:12]}{' with uncommitted changes' if git.dirty else ''}" if git else "unknown"
    for code in record.code:
        yield f"code of {code.package}", code.text
    yield "hardware", ", ".join(part for part in (hardware.machine, hardware.cpu, hardware.gpu) if part)
    yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield "command", shlex.join(record.command)
