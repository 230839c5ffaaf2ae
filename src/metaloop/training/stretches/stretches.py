"""Outer steps in stretches: between two steps that Lightning takes, a compiled function takes the others.

Lightning takes the first two steps after every checkpoint, each step after which a row of metrics is written, and the steps
whose function has not been compiled. Which those are depends on the steps' numbers alone, so a resumed run computes as one
that was never stopped.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence

from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from metaloop.data.episodes import Episodes
from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.learners.learner import Learner, PureOuterStep
from metaloop.training.packs.member import Membership, PackedSteps, PackLostError
from metaloop.training.stretches.captured import CapturedStep, StepFunction, leaves_of, meta_batches, run_steps
from metaloop.training.stretches.capturing import (
    NotCapturedError,
    arguments,
    capture,
    check_captured,
    check_faster,
    check_fits,
    check_pays,
    check_runs_at_once,
    clipping_of,
    optimizer_state,
    parameters_of,
    pays_at_best,
    steps_ahead,
)
from metaloop.training.stretches.optimizer_state import OptimizerState
from metaloop.training.stretches.progress import count_steps
from metaloop.training.stretches.refusals import refusal
from metaloop.types import Tasks

AUTO = "auto"
CHOICE = "stretches"  # key among the choices that are stored beside a run
_YES, _NO = "yes", "no"  # its values
_FIRST = 2  # steps after a checkpoint that Lightning takes: it asks for one batch ahead
_LONGEST = 1000  # steps in a stretch, so that progress is shown
_FEWEST = 500  # steps ahead for which a function is compiled anew where schedules change it

log = logging.getLogger(__name__)
Mode = str | bool


def check_mode(mode: object) -> Mode:
    """Raise a UserError unless ``mode`` is a value of the config key ``stretches``."""
    if isinstance(mode, bool) or mode == AUTO:
        return mode
    raise UserError(f"stretches={mode!r}: auto, true or false")


class Stretches:
    """Takes outer steps in stretches where that pays.

    Args:
        mode: "auto" to decide by timing; True to take stretches however short the run is; False never to.
        learner: The learner.
        meta_batch: Tasks of an outer step.
        log_every: Outer steps between two rows of metrics.
        workers: Number of processes that prepare episodes.
        callbacks: Callbacks of the user.
        pack: Place among runs whose stretches are computed together; None for a run by itself.

    Attributes:
        report: How outer steps are taken and why, for the log and the record.
    """

    def __init__(
        self,
        mode: Mode,
        learner: Learner,
        meta_batch: int,
        log_every: int,
        workers: int = 0,
        callbacks: Sequence[Callback] = (),
        pack: Membership | None = None,
    ) -> None:
        self.mode = check_mode(mode)
        self.meta_batch = meta_batch
        self.report = "one by one"
        self._learner = learner
        self._pure = learner if isinstance(learner, PureOuterStep) else None
        self._log_every = log_every
        self._workers = workers
        self._callbacks = tuple(callbacks)
        self._pack = pack
        self._decided: bool | None = None if mode == AUTO else bool(mode)
        self._chosen = ""  # by timing
        self._captured: dict[Hashable, CapturedStep | PackedSteps | None] = {}  # by phase of the learner; None: not compiled
        self._state: OptimizerState | None = None
        self._episodes: Episodes | None = None

    @property
    def taken(self) -> bool:
        """Whether stretches are taken now."""
        return self._state is not None

    @property
    def possible(self) -> bool:
        """Whether stretches may be taken, now or after the next step."""
        return self._decided is not False

    def choices(self) -> dict[str, str]:
        """What was decided by timing, to be stored beside the run; empty if nothing was."""
        return {CHOICE: self._chosen} if self._chosen else {}

    def restore(self, choices: Mapping[str, str]) -> None:
        """Take over what an earlier process decided, so that a resumed run computes as before."""
        if self.mode == AUTO and CHOICE in choices:
            self._chosen = choices[CHOICE]
            self._decided = self._chosen == _YES

    def begin(self, trainer: Trainer, episodes: Episodes) -> None:
        """Prepare before the first outer step of a process.

        Raises:
            UserError: the config asks for stretches, which are impossible here.
        """
        self._captured, self._state, self._episodes = {}, None, episodes
        if not self.possible:
            self._leave_pack("its steps are taken one by one")
            return
        reason = refusal(trainer, self._learner, self._callbacks, self._workers)
        if reason:
            self._refuse(reason)
        elif self._decided is None and not pays_at_best(trainer):
            self._decided = False
            self._leave_pack(f"{steps_ahead(trainer):,.0f} outer steps are too few to compile for")
        elif isinstance(self._learner.over_tasks, Auto):
            self._learner.over_tasks.allow_compiling(False)  # the few steps that Lightning takes do not pay for that
            if self._pack is not None and self._pack.is_decided():
                self._learner.over_tasks.take_vmap()
                self._decided, self._chosen = True, _YES if self.mode == AUTO else ""

    def _leave_pack(self, reason: str) -> None:
        if self._pack is not None:
            self._pack.leave(reason)
            self._pack = None

    def _refuse(self, reason: str) -> None:
        """Go on step by step, and say why.

        Raises:
            UserError: the config asks for stretches.
        """
        if self.mode is True:
            raise UserError(f"stretches=true: outer steps can only be taken one by one, because {reason}; take stretches=auto")
        self._decided, self._state = False, None
        self._leave_pack(reason)
        self.report = f"one by one, because {reason}"
        log.info("outer steps are taken %s", self.report)
        if isinstance(self._learner.over_tasks, Auto):
            self._learner.over_tasks.allow_compiling(True)

    def next_step(self, first: int, step: int, stop: int) -> int:
        """The outer step that Lightning takes next; a stretch takes those from ``step`` up to it.

        Args:
            first: The first step after the last checkpoint.
            step: The first step that has not been taken.
            stop: The step of the next checkpoint.
        """
        if self._pure is None or not self.taken or step < first + _FIRST:
            return step
        phase = self._pure.phase(step)
        if self._captured.get(phase) is None or any(self._pure.phase(step - back - 1) != phase for back in range(_FIRST)):
            return step
        last = min((step // self._log_every + 1) * self._log_every, stop, step + _LONGEST) - 1
        while step < last and self._pure.phase(step) == phase:
            step += 1
        return step

    def after_step(self, trainer: Trainer, tasks: Tasks) -> None:
        """Compile the function of the outer step that Lightning has just taken, if that pays.

        Args:
            trainer: The trainer.
            tasks: The meta-batch of the step.
        """
        if self._pure is None or not self.possible:
            return
        phase = self._pure.phase(trainer.global_step - 1)
        if phase not in self._captured:
            try:
                self._captured[phase] = self._capture(trainer, self._pure, tasks, phase)
            except NotCapturedError as reason:
                self._chosen = _NO
                self._refuse(str(reason))

    def _capture(
        self, trainer: Trainer, learner: PureOuterStep, tasks: Tasks, phase: Hashable | None
    ) -> CapturedStep | PackedSteps | None:
        """Compile the step, or join a pack with it; None if a schedule soon changes its function."""
        assert self._episodes is not None
        check_captured(self._learner, phase)
        parameters, ahead = parameters_of(self._learner), steps_ahead(trainer)
        by_vmap = not isinstance(self._learner.over_tasks, Auto) or self._learner.over_tasks.runs_by_vmap
        seconds = None
        if self._decided is None:
            if not by_vmap:
                check_fits(learner, parameters, tasks)  # once: a resumed run must not depend on the memory that is free then
            seconds = check_pays(learner, parameters, tasks, ahead)
            self._decided, self._chosen = True, _YES
        if not by_vmap:
            check_runs_at_once(learner, parameters, tasks)
        if self.mode == AUTO and learner.phase(trainer.global_step + int(min(ahead, _FEWEST))) != phase:
            self._leave_pack("a schedule changes its step")
            return None
        state = optimizer_state(trainer.optimizers[0], parameters)
        leaves, tree = leaves_of(tasks)
        following, _ = next(meta_batches(self._episodes, self.meta_batch, trainer.global_step, trainer.global_step + 1))
        function = StepFunction(learner, state.layout, state.update, clipping_of(trainer), tree)
        example, other = arguments(state, leaves), arguments(state, following)
        step: CapturedStep | PackedSteps | None = self._join_pack(function, example, other)
        if step is None:
            step, self.report = capture(function, example, other)
            if seconds is not None:
                check_faster(step, example, seconds)
        if isinstance(self._learner.over_tasks, Auto):
            self._learner.over_tasks.settle()
        log.info("outer steps are taken %s", self.report)
        self._state = state
        return step

    def _join_pack(self, function: StepFunction, example: Sequence[Tensor], other: Sequence[Tensor]) -> PackedSteps | None:
        """Join the pack that the scheduler has made for this run, if there is one and it pays."""
        pack, self._pack = self._pack, None
        joined = None if pack is None else pack.join(function, example, other)
        if isinstance(joined, str):
            log.info("outer steps are not computed together with those of other runs: %s", joined)
            return None
        if joined is not None:
            self.report = f"in stretches, together with other runs: {joined.message}"
        return joined

    def take(self, trainer: Trainer, stop: int) -> list[tuple[Tensor, Tensor]]:
        """Take the outer steps before ``stop``; the trainer then stands there.

        Returns:
            The loss of each step, and the numbers of its tasks.
        """
        first = trainer.global_step
        if first == stop or self._pure is None:
            return []
        state, phase = self._state, self._pure.phase(first)
        step = self._captured[phase]
        assert state is not None
        assert step is not None
        assert self._episodes is not None
        rates = _rates(trainer, state, stop - first)
        losses: list[tuple[Tensor, Tensor]] = []
        if isinstance(step, PackedSteps):
            try:
                for part in step.take(state, rates, self._episodes, self.meta_batch, first):
                    losses += part
            except PackLostError as error:
                log.warning("%s; this run goes on by itself", error)
                step = self._captured[phase] = step.by_itself()
        if isinstance(step, CapturedStep):
            batches = meta_batches(self._episodes, self.meta_batch, first + len(losses), stop)
            losses += run_steps(step, state, rates[len(losses) :], batches)
        count_steps(trainer, stop - first)
        return losses


def _rates(trainer: Trainer, state: OptimizerState, steps: int) -> list[float]:
    """The learning rate of each of the next steps; moves the schedules on by as many."""
    rates = []
    for _ in range(steps):
        rates.append(state.rate)
        for config in trainer.lr_scheduler_configs:
            assert not isinstance(config.scheduler, ReduceLROnPlateau)  # refused
            config.scheduler.step()
    return rates
