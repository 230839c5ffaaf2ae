"""A short trial of a run, before it starts: what it will take in time and memory. It writes nothing."""

import time
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from statistics import median, quantiles
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.records.schema import RunIdentity
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.training.meta_test import quiet_trainer
from metaloop.training.outer_module import OuterModule
from metaloop.training.processes.peak_memory import PeakMemory
from metaloop.training.processes.process import stops_kept
from metaloop.training.run import RunParts
from metaloop.training.starting.start_up import StartUp

_BEFORE = 2  # outer steps that choose how tasks are run, and are not timed
_STEPS, _SECONDS = 20, 10.0  # a trial ends after so many timed outer steps, or after the step in which the seconds are over
_BATCHES = 3  # of validation episodes on each rank; the first also chooses how to run them, and is not timed if there are more


@dataclass(frozen=True)
class Trial:
    """What was measured, and how much of it a run has.

    Attributes:
        over_tasks: How the tasks of a meta-batch were run.
        start_up: Seconds to the end of the second outer step, where it is settled how tasks are run.
        steps: Seconds of each timed outer step.
        episodes: Number of timed validation episodes, over all ranks.
        episode: Seconds of one of them.
        max_steps, validations, validation_episodes, test_episodes: Sizes of the run; the last counts an episode for each
            member of an ensemble.
        patience: Whether the run may stop before ``max_steps``.
        memory: Bytes, as in a record.
        on_device: Whether it is memory of a GPU.
    """

    over_tasks: str
    start_up: float
    steps: tuple[float, ...]
    episodes: int
    episode: float
    max_steps: int
    validations: int
    validation_episodes: int
    test_episodes: int
    patience: bool
    memory: int
    on_device: bool

    @property
    def seconds(self) -> float:
        """Expected seconds of the run."""
        return self._seconds(median(self.steps) if self.steps else 0.0)

    @property
    def likely(self) -> tuple[float, float]:
        """Seconds of the run if all outer steps were as fast as the quicker quarter, and the slower quarter, of the timed."""
        if len(self.steps) < 2:
            return self.seconds, self.seconds
        low, _, high = quantiles(self.steps, method="inclusive")
        return self._seconds(low), self._seconds(high)

    @property
    def validating(self) -> float:
        """Expected seconds of all validations."""
        return self.validations * self.validation_episodes * self.episode

    @property
    def testing(self) -> float:
        """Expected seconds of the meta-test, whose episodes are not touched: they have the size of validation episodes."""
        return self.test_episodes * self.episode

    def _seconds(self, step: float) -> float:
        return self.start_up + max(0, self.max_steps - _BEFORE) * step + self.validating + self.testing


class _Timer(Callback):
    """Callback that times outer steps after the second and batches of validation episodes, and ends the trial in time."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.evaluated: list[tuple[float, int]] = []  # seconds and episodes of each batch
        self._since = self._start = 0.0
        self._untimed = 0
        self.choosing = 0.0  # seconds of the untimed steps after the first

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Time a step from the end of the one before, so that drawing its episodes counts."""
        now = _now(pl_module)
        if self._untimed == _BEFORE:
            self.steps.append(now - self._since)
        else:
            self.choosing += now - self._since if self._untimed else 0.0
            self._untimed, self._start = self._untimed + 1, now
        self._since = now
        enough = len(self.steps) >= _STEPS or (bool(self.steps) and now - self._start > _SECONDS)
        if trainer.strategy.broadcast(enough):  # all ranks end with the same step
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the first batch."""
        self._since = _now(pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        """Time a batch, with drawing its episodes."""
        now = _now(pl_module)
        self.evaluated.append((now - self._since, len(batch)))
        self._since = now

    def episode(self, ranks: int) -> tuple[int, float]:
        """Number of timed validation episodes, and seconds of one, with the ranks side by side."""
        timed = self.evaluated[1:] or self.evaluated
        episodes = sum(count for _, count in timed)
        return episodes * ranks, sum(seconds for seconds, _ in timed) / max(episodes * ranks, 1)


def _now(module: LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()


def try_out(parts: RunParts, identity: RunIdentity) -> Trial:
    """Take a few outer steps and score a few validation episodes, as the run would. Every rank calls this.

    Args:
        parts: Objects of the run.
        identity: Its identity.

    Raises:
        UserError: as training does.
    """
    start_up, timer, memory = StartUp(), _Timer(), PeakMemory(parts.learner.over_tasks)
    torch.manual_seed(identity.seed)
    module = OuterModule(
        parts.learner,
        parts.problem,
        parts.optimizer,
        parts.schedule,
        parts.log_every,
        parts.low_precision_meta_gradient,
    )
    whole = identity.config["trainer"]["max_steps"] if parts.learner.learns else 1
    trainer = quiet_trainer(partial(parts.trainer, max_steps=min(whole, _STEPS + _BEFORE)), [timer, start_up, memory])
    plan = parts.plan
    few = min(plan.validation_episodes, _BATCHES * plan.eval_batch * trainer.world_size)
    data = EpisodeDataModule(parts.dataset, replace(plan, interval=_STEPS + _BEFORE + 1, validation_episodes=few))
    with stops_kept():
        trainer.fit(module, data)
    assert start_up.seconds is not None
    episodes, seconds = timer.episode(trainer.world_size)
    return Trial(
        over_tasks=parts.learner.over_tasks.name,
        start_up=start_up.seconds + timer.choosing,
        steps=tuple(timer.steps),
        episodes=episodes,
        episode=seconds,
        max_steps=whole,
        validations=ceil(whole / plan.interval),
        validation_episodes=plan.validation_episodes,
        test_episodes=plan.test_episodes * parts.ensemble,
        patience=parts.patience is not None,
        memory=memory.bytes,
        on_device=module.device.type == "cuda" or trainer.strategy.root_device.type == "cuda",
    )
