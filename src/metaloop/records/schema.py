"""A run as typed data: its identity (run.json) and its record (record.json). The fields below are the only list of their keys.

A field without a default stands in every file; one with a default may be missing from files of older runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaloop.problems.metric import Metric

SCHEMA = 2  # of record.json
INSPECTION_VERSION = 2  # of inspection.json
SEARCH_VERSION = 2  # of search.json
RECORD, IDENTITY = "record.json", "run.json"
FINISHED = "finished"  # the status of a run that took all its outer steps

Size = int | tuple[int, int]  # fixed, or drawn per episode between two ends


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes with the half-width of its interval; None where no spread can be estimated."""

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Statistic:
    """What is reported beside the score: an estimate and the metric that shows it."""

    metric: Metric
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class CurvePoint:
    """The score after ``step`` inner steps."""

    step: int
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Baseline:
    """What a method without training scores on the same episodes."""

    name: str
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Oracle:
    """What the process that drew the episodes would score on them."""

    name: str
    score: Estimate
    others: Mapping[str, Statistic]


@dataclass(frozen=True)
class MetaTest:
    """The result of a meta-test.

    Attributes:
        problem: what was asked: ``"classification"``, ``"regression"``, ``"tagging"``, or a name of a user's own.
        setting: size of an episode as people say it, such as ``5-way 1-shot``.
        metric: of the score.
        mean: the score, as stored: :meth:`Metric.shown` turns it into what people read.
        half_width: of its interval over episodes; None where no spread can be estimated.
        level: confidence level of all intervals, in (0, 1).
        others: what is reported beside the score, by the name of its metric.
        curve: the score before and after inner steps; one point for learners without them.
        split: of the data set.
        episodes: how many were scored.
        ways, shots, queries: size of an episode.
        steps: inner steps; None for learners without them.
        norm_mode: how norms take their statistics.
        transductive: whether queries see each other.
        seed: of the stream of episodes.
        baseline, oracle: scores to compare with, where there are any.
    """

    problem: str
    setting: str
    metric: Metric
    mean: float
    half_width: float | None
    level: float
    others: Mapping[str, Statistic]
    curve: tuple[CurvePoint, ...]
    split: str
    episodes: int
    ways: Size
    shots: Size
    queries: int
    steps: int | None
    norm_mode: str
    transductive: bool
    seed: int
    baseline: Baseline | None = None
    oracle: Oracle | None = None


@dataclass(frozen=True)
class Training:
    """What the meta-training took and reached.

    Attributes:
        steps: outer steps.
        wall_seconds, cpu_seconds, start_up_seconds: of rank zero; None where not measured.
        tasks_per_second: over the whole training.
        peak_memory_bytes: of the device, or of the process and its workers.
        over_tasks: how tasks were run.
        best_step, best_validation: of the checkpoint that was meta-tested.
        encoder: identity of a frozen encoder; None without one.
    """

    steps: int
    wall_seconds: float
    tasks_per_second: float
    peak_memory_bytes: int
    over_tasks: str
    best_step: int
    best_validation: float
    start_up_seconds: float | None = None
    cpu_seconds: float | None = None
    encoder: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Git:
    """The checkout of the code that ran: its commit, and whether tracked files had changed since."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Hardware:
    """What the run had: processor, cores, accelerator (None without one), ranks, threads of rank zero."""

    machine: str
    cpu: str
    cores: int | None
    gpu: str | None
    ranks: int
    threads: int | None = None


@dataclass(frozen=True)
class Published:
    """A score as a paper prints it, stored as our scores are (accuracies as fractions)."""

    mean: float
    half_width: float | None = None


@dataclass(frozen=True)
class Paper:
    """The ``paper`` block of an experiment: the published number that it reproduces.

    Attributes:
        citation, table: where the number stands.
        published: the number.
        mark: how it is known, a key of :data:`metaloop.report.paper.MARKS`.
        tolerance: largest difference that counts as reproduced, in the unit of the stored score.
        metric: name of a standard metric, or a whole one; None for the run's own.
        step: inner steps after which the number was measured; None for all.
        deviations: from the paper's set-up, with reasons.
    """

    citation: str
    table: str
    published: Published
    mark: str
    tolerance: float
    metric: str | Metric | None = None
    step: int | None = None
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunIdentity:
    """What a run is, before it starts: the content of run.json.

    Attributes:
        name: of the run.
        seed: of the training.
        choices: choice by config group.
        config: resolved, as plain data.
        overrides: of the command line.
        command: that runs it again.
        created: date and time, ISO 8601.
        fingerprint: hash of the config.
        group: of runs that belong together (a sweep), or None.
    """

    name: str
    seed: int
    choices: Mapping[str, str]
    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    command: tuple[str, ...]
    created: str
    fingerprint: str
    group: str | None = None


@dataclass(frozen=True)
class Record:
    """The content of record.json; for the first fields see :class:`RunIdentity`.

    Attributes:
        status: :data:`FINISHED`, or how else the training ended.
        training: None for an evaluation of a run that was trained before.
        paper: None where the run reproduces no published number.
    """

    name: str
    status: str
    created: str
    seed: int
    command: tuple[str, ...]
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    config: Mapping[str, Any]
    fingerprint: str
    git: Git | None
    versions: Mapping[str, str]
    hardware: Hardware
    training: Training | None
    test: MetaTest
    paper: Paper | None = None
