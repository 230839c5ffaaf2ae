"""One run: meta-training, meta-test, record. Works on objects and plain dicts, without a config library."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler

from metaloop.data.distribution import Dataset
from metaloop.data.plan import EpisodePlan
from metaloop.data.recorded import keep_contents
from metaloop.learners.learner import Learner
from metaloop.problems.problem import Problem
from metaloop.records.code import code_of, framework
from metaloop.records.directory import BEST, CHOICES, LAST
from metaloop.records.environment import hardware, versions
from metaloop.records.published import Paper
from metaloop.records.schema import FINISHED, ExampleCounts, MetaTest, Record, RunIdentity, Training
from metaloop.records.typed_json import decode
from metaloop.records.writing import record_as_dict, write_record
from metaloop.system.tensors import load_checkpoint
from metaloop.tracking.csv import CsvTracker
from metaloop.tracking.tensorboard import TensorBoardTracker
from metaloop.tracking.tracker import RunInfo, Tracker
from metaloop.training.checkpoints import Checkpoints
from metaloop.training.choices import KeptChoices
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.training.ensembles import ensemble
from metaloop.training.meta_test import meta_test, quiet_trainer
from metaloop.training.outer_module import OuterModule
from metaloop.training.packs.member import Membership
from metaloop.training.processes.peak_memory import PeakMemory
from metaloop.training.processes.process import stops_kept
from metaloop.training.progress import Progress
from metaloop.training.restoring import checked
from metaloop.training.starting.start_up import StartUp
from metaloop.training.stretches.stretches import AUTO, Mode, Stretches

log = logging.getLogger(__name__)
_PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}  # values of trainer.profiler


@dataclass(frozen=True)
class RunParts:
    """The objects that make up a run; see the config groups of the same names."""

    learner: Learner
    dataset: Dataset
    problem: Problem
    plan: EpisodePlan
    optimizer: Callable[..., Any]
    schedule: Callable[..., Any] | None
    low_precision_meta_gradient: bool
    trainer: Callable[..., Trainer]
    trackers: Sequence[Tracker]
    log_every: int
    patience: int | None
    callbacks: Sequence[Callback] = ()
    stretches: Mode = AUTO  # outer steps by one compiled function, see training/stretches
    ensemble: int = 1  # best checkpoints whose answers are averaged in the meta-test


def train(
    parts: RunParts,
    identity: RunIdentity,
    directory: Path,
    *,
    resume: bool,
    report: Callable[[Path], object] | None = None,
) -> Record:
    """Meta-train, meta-test the best checkpoint once, and write the record and its files. Every rank calls this.

    Args:
        parts: Objects of the run.
        identity: Name, seed, config and command of the run, for the record.
        directory: Run directory; rank zero writes into it.
        resume: Whether to continue from the last checkpoint if there is one.
        report: Function of the finished run's directory that writes its report; called on rank zero before the trackers
            finish, because they show the report's figures.

    Returns:
        The record of the run.

    Raises:
        UserError: an object refuses its part of the config, or training fails in a way that the user can fix.
    """
    start_up = StartUp()
    torch.manual_seed(identity.seed)
    checkpoints = directory / "checkpoints"
    last = checkpoints / LAST
    resumed = load_checkpoint(last) if resume and last.exists() else None
    if resumed:
        checked(resumed, identity.fingerprint, last)
    keeper = Checkpoints(checkpoints, identity.fingerprint, parts.patience, parts.ensemble)
    trackers = Trackers([CsvTracker(), TensorBoardTracker(), *parts.trackers])
    plan = parts.plan
    limits = plan.meta_batch, parts.log_every, plan.workers
    stretches = Stretches(parts.stretches, parts.learner, *limits, parts.callbacks, Membership.of_process())
    module = OuterModule(
        parts.learner,
        parts.problem,
        parts.optimizer,
        parts.schedule,
        parts.log_every,
        parts.low_precision_meta_gradient,
        trackers.log,
        keeper.last_good,
        stretches,
    )
    memory = PeakMemory(parts.learner.over_tasks)
    choices = KeptChoices(directory / CHOICES, parts.learner.over_tasks, stretches)
    callbacks = [keeper, choices, Progress(parts.problem.metric), start_up, memory, *parts.callbacks]
    trainer = quiet_trainer(_make_trainer(parts), callbacks, _profiler(identity.config["trainer"].get("profiler"), directory))
    data = EpisodeDataModule(parts.dataset, plan, stretches)
    if trainer.is_global_zero:
        keep_contents(directory, parts.dataset)
        trackers.start(_info(identity, directory, resumed["global_step"] if resumed else 0))
    record, status = None, "failed"
    try:
        with stops_kept():
            trainer.fit(module, data, ckpt_path=last if resumed else None, weights_only=True)
        record = _finish(parts, identity, directory, trainer, module, keeper, data, start_up.seconds, memory.bytes)
        status = FINISHED
        if report is not None and trainer.is_global_zero:
            report(directory)
    finally:
        trackers.finish(None if record is None else record_as_dict(record), status)
    return record


def _make_trainer(parts: RunParts) -> Callable[..., Trainer]:
    if parts.learner.learns:
        return parts.trainer
    log.info("the learner has nothing to meta-train, so it takes one outer step instead of trainer.max_steps")
    return partial(parts.trainer, max_steps=1)


def _profiler(name: str | None, directory: Path) -> Profiler | None:
    """Lightning's profiler of this name, which writes fit-profile.txt and test-profile.txt into the run directory."""
    return None if name is None else _PROFILERS[name](dirpath=directory, filename="profile")


class Trackers:
    """All trackers of a run, used as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers
        self.started: list[Tracker] = []

    def start(self, run: RunInfo) -> None:
        """Start each tracker; an exception of one ends the run before training."""
        for tracker in self.trackers:
            tracker.start(run)
            self.started.append(tracker)

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Pass a row of metrics to each tracker."""
        for tracker in self.started:
            tracker.log(row, step)

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Finish each tracker that was started."""
        for tracker in self.started:
            tracker.finish(record, status)


def _info(identity: RunIdentity, directory: Path, step: int) -> RunInfo:
    return RunInfo(
        directory=directory,
        name=directory.name if identity.group else identity.name,
        group=identity.group,
        choices=dict(sorted(identity.choices.items())),
        config=identity.config,
        resumed_step=step,
    )


def _finish(
    parts: RunParts,
    identity: RunIdentity,
    directory: Path,
    trainer: Trainer,
    module: OuterModule,
    keeper: Checkpoints,
    data: EpisodeDataModule,
    start_up_seconds: float | None,
    peak_memory_bytes: int,
) -> Record:
    """Meta-test the best checkpoint and write the record."""
    steps = trainer.global_step
    best = load_checkpoint(keeper.directory / BEST)
    module.load_state_dict(best["state_dict"])
    assert keeper.best_score is not None
    training = Training(
        steps=steps,
        start_up_seconds=start_up_seconds,
        wall_seconds=module.seconds,
        cpu_seconds=module.cpu_seconds,  # all threads of rank zero's process
        tasks_per_second=module.tasks_done / max(module.seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes,
        over_tasks=parts.learner.over_tasks.name,
        stretches=module.stretches.report if module.stretches else None,
        best_step=keeper.best_step,
        best_validation=keeper.best_score,
        encoder=parts.dataset.encoded_by,
    )
    if parts.ensemble > 1:
        module.learner = ensemble(parts.learner, keeper.directory, parts.ensemble, identity.fingerprint)
    test = meta_test(trainer, module, data, directory)
    metric = parts.problem.metric
    score = metric.with_unit(metric.interval(test["mean"], test["half_width"]))
    log.info("meta-test: %s %s over %d episodes", metric.title, score, test["episodes"])
    record = make_record(identity, training, test, trainer.world_size, parts.dataset.counts())
    if trainer.is_global_zero:
        write_record(directory, record)
    return record


def make_record(
    identity: RunIdentity,
    training: Training | None,
    test: Mapping[str, Any],
    ranks: int,
    examples: Mapping[str, ExampleCounts],
) -> Record:
    """Make the record of a finished run.

    Args:
        identity: Name, seed, config and command of the run.
        training: Cost and outcome of the training; None for an evaluation.
        test: Result of :func:`~metaloop.training.meta_test.meta_test`.
        ranks: Number of processes.
        examples: Result of :meth:`~metaloop.data.distribution.Dataset.counts`.
    """
    paper = identity.config.get("paper")
    return Record(
        name=identity.name,
        status=FINISHED,
        created=identity.created,
        seed=identity.seed,
        command=identity.command,
        overrides=identity.overrides,
        choices=identity.choices,
        config=identity.config,
        fingerprint=identity.fingerprint,
        git=framework(),
        versions=versions(),
        hardware=hardware(ranks),
        training=training,
        test=decode(MetaTest, test, "the meta-test"),
        paper=None if paper is None else decode(Paper, paper, "config", "paper"),
        code=(*code_of(identity.config), *identity.configuration),
        examples=dict(examples) or None,
    )
