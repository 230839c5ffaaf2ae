"""A run as typed data: its identity (run.json) and its record (record.json). The fields below are the only list of their keys.

A field without a default stands in every file; one with a default may be missing from files of older runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaloop.problems.metric import Metric
from metaloop.records.published import Paper

SCHEMA = 2  # of record.json
INSPECTION_VERSION = 2  # of inspection.json
SEARCH_VERSION = 2  # of search.json
RECORD, IDENTITY = "record.json", "run.json"
FINISHED = "finished"  # the status of a run that took all its outer steps

Size = int | tuple[int, int]  # fixed, or the ends of a range that each episode draws from


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes with the half-width of its interval; None if no spread can be estimated."""

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Statistic:
    """A further number reported beside the score: an estimate and its metric."""

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
class BaselineScore:
    """Score of a method without training on the same episodes."""

    name: str
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class OracleScore:
    """Score of the process that generated the episodes, on the same episodes."""

    name: str
    score: Estimate
    others: Mapping[str, Statistic]


@dataclass(frozen=True)
class MetaTest:
    """The result of a meta-test.

    Attributes:
        problem: kind of task: ``"classification"``, ``"regression"``, ``"tagging"``, or the name of a problem of your own.
        setting: size of an episode in words, such as ``5-way 1-shot``.
        metric: metric of the score.
        mean: the score, as stored; :meth:`Metric.shown` converts it for display.
        half_width: half-width of its interval over episodes; None if no spread can be estimated.
        level: confidence level of all intervals, in (0, 1).
        others: further statistics, by the name of their metric.
        curve: the score over inner steps, from step 0; one point for learners without inner steps. For some learners that act,
            the total reward after so many episodes.
        split: split of the data set.
        episodes: number of scored episodes.
        ways, shots, queries: size of an episode.
        steps: inner steps; None for learners without them.
        norm_mode: how norm layers take their statistics.
        transductive: whether a query's prediction may depend on the other queries.
        seed: seed of the stream of episodes.
        curve_over: what the steps of the curve are, in the singular.
        returns: the return of an episode by its place in the trial, for learners that act; of long trials, the mean of some
            neighbours, at the place of the last. Empty for other problems.
        baseline, oracle: scores to compare with; None if there are none.
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
    curve_over: str = "inner step"
    returns: tuple[CurvePoint, ...] = ()
    baseline: BaselineScore | None = None
    oracle: OracleScore | None = None


@dataclass(frozen=True)
class Training:
    """Cost and outcome of a meta-training.

    Attributes:
        steps: outer steps taken.
        wall_seconds, cpu_seconds, start_up_seconds: times of rank zero; None if not measured.
        tasks_per_second: rate over the whole training.
        peak_memory_bytes: on a GPU, the largest peak of a rank's device. Else what the machine that needs most must have: the
            sum over its ranks and all processes that they started, workers of tasks and of episodes among them, of the largest
            resident size of each; libraries and shared memory count once. Meta-training with its validations, without the
            meta-test and a command that only waits for its ranks.
        over_tasks: how the tasks of a meta-batch were run.
        stretches: how outer steps were taken: in stretches by one compiled function, or one by one and why; None if unknown.
        best_step, best_validation: outer step and meta-validation score of the checkpoint that was meta-tested.
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
    stretches: str | None = None
    encoder: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ExampleCounts:
    """What was counted among the examples of a split.

    Attributes:
        examples: number of examples.
        repeated: number of examples that equal an earlier one of their class; None if they were not compared.
        contradictory: number of examples that equal one of another class of any split; None if they were not compared.
        cut: number of texts with more tokens than ``dataset.length``; None if it is unknown, or if examples are no texts.
    """

    examples: int
    repeated: int | None = None
    contradictory: int | None = None
    cut: int | None = None


@dataclass(frozen=True)
class Git:
    """The checkout of the code that ran: its commit, and whether tracked files had changed since."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Code:
    """A package that a run's config names, or a folder of configuration that it was composed from, besides the framework's.

    Attributes:
        package: Name of the package or module, or path of the folder.
        version: Version of its distribution; None if it is not installed.
        repository: Address, or else folder, of the repository that it lies in; None if there is none or it is installed.
        git: Commit of its checkout, and whether its files had changed; None if no repository has its files.
        digest: SHA-256 of its Python or YAML files; None if it is installed.
    """

    package: str
    version: str | None
    repository: str | None
    git: Git | None
    digest: str | None

    @property
    def text(self) -> str:
        """What is known, for people."""
        parts = [f"version {self.version}"] if self.version else []
        if self.git:
            parts.append(f"commit {self.git.commit[:12]}{' with uncommitted changes' if self.git.dirty else ''}")
        parts += [self.repository] if self.repository else []
        parts += [f"digest {self.digest[:12]}"] if self.digest else []
        return ", ".join(parts) or "unknown"


@dataclass(frozen=True)
class Hardware:
    """Machine of a run: architecture, processor, cores, accelerator (None without one), ranks, threads of rank zero."""

    machine: str
    cpu: str
    cores: int | None
    gpu: str | None
    ranks: int
    threads: int | None = None


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run, known before it starts: the content of run.json.

    Attributes:
        name: name of the run.
        seed: seed of the training.
        choices: chosen option by config group.
        config: the resolved config, as plain data.
        overrides: overrides given on the command line.
        command: command line that runs it again.
        created: date and time, ISO 8601.
        fingerprint: hash of the config.
        group: name shared by runs that belong together (a sweep), or None.
        folder: working folder, to which relative paths of the config belong; None if unknown.
        configuration: the user's own folders of configuration groups, as they were when the run was composed.
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
    folder: str | None = None
    configuration: tuple[Code, ...] = ()


@dataclass(frozen=True)
class Record:
    """The content of record.json; for the first fields see :class:`RunIdentity`.

    Attributes:
        status: :data:`FINISHED`, or how the training ended otherwise.
        training: None for an evaluation of an earlier training.
        paper: None if the run reproduces no published number.
        code: The user's own and other packages that the config names, and the user's folders of configuration.
        examples: counts of the examples of each split; None if the data set counts none.
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
    code: tuple[Code, ...] = ()
    examples: Mapping[str, ExampleCounts] | None = None
