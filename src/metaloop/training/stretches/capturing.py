"""The decision to compile an outer step, and the compiling."""

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from metaloop.errors import UserError
from metaloop.inner.execution.agreement import check_agreement
from metaloop.inner.execution.auto import Auto, compiling_pays, fewest_steps_that_pay
from metaloop.inner.execution.footprint import free_bytes, graph_bytes
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.learner import Learner, PureOuterStep
from metaloop.models.norm import Norm
from metaloop.training.stretches.captured import CapturedStep, Clipping, StepFunction, one_thread
from metaloop.training.stretches.layout import Layout
from metaloop.training.stretches.optimizer_state import OptimizerState
from metaloop.training.stretches.updates import Update, update_of
from metaloop.types import Params, Tasks

log = logging.getLogger(__name__)
_SMALL = 0.02  # seconds: a longer meta-gradient has kernels that pay for several threads, which a stretch does without
_WIDE = 0.5  # seconds: the same for perceptrons, whose weights stay factors in a stretch, which takes most of the work away
_SHARE = 0.5  # share of the free memory that all tasks at once may take


class NotCapturedError(Exception):
    """The reason, in words, why outer steps are not taken in stretches."""


def steps_ahead(trainer: Trainer) -> float:
    """Outer steps that the run will take; infinite if it has no end."""
    return float("inf") if trainer.max_steps < 0 else trainer.max_steps - trainer.global_step


def pays_at_best(trainer: Trainer) -> bool:
    """Whether so many outer steps lie ahead that compiling can pay."""
    return steps_ahead(trainer) >= fewest_steps_that_pay()


def check_pays(learner: PureOuterStep, parameters: dict[str, Tensor], tasks: Tasks, ahead: float) -> float:
    """Time the meta-gradient, and return its seconds.

    Raises:
        NotCapturedError: compiling does not pay.
    """
    with torch.random.fork_rng(devices=[]):  # timing must not move the random numbers of training
        seconds = _seconds(lambda: learner.outer_gradient(parameters, tasks, Vmap(checked=False)))
    longest = _WIDE if is_perceptron(learner) else _SMALL
    if seconds > longest or not compiling_pays(min(seconds, _SMALL), seconds * ahead):
        raise NotCapturedError(f"compiling does not pay for {ahead:,.0f} meta-gradients of {seconds * 1e3:.2f} ms")
    return seconds


def check_faster(step: CapturedStep, example: Sequence[Tensor], seconds: float) -> None:
    """Raise a NotCapturedError unless a step that was long enough for large kernels is faster when it is compiled."""
    if seconds <= _SMALL:
        return
    with torch.no_grad():
        taken = _seconds(lambda: step(*example))
    if taken >= seconds:
        raise NotCapturedError(f"compiled, it takes {taken * 1e3:.2f} ms in the place of {seconds * 1e3:.2f} ms")


def is_perceptron(learner: object) -> bool:
    """Whether all parameters belong to linear layers and norms, or are the learner's own."""
    assert isinstance(learner, nn.Module)
    owners = [module for module in learner.modules() if next(module.parameters(recurse=False), None) is not None]
    return all(isinstance(module, nn.Linear | nn.LayerNorm | Norm) or module is learner for module in owners)


def check_fits(learner: PureOuterStep, parameters: dict[str, Tensor], tasks: Tasks) -> None:
    """Raise a NotCapturedError unless there is memory for the graphs of all tasks at once."""
    with torch.random.fork_rng(devices=[]):
        one = graph_bytes(lambda: learner.outer_gradient(parameters, tasks[:1], Loop()))
    if one * len(tasks) >= _SHARE * free_bytes(tasks.index.device):
        raise NotCapturedError(f"all tasks at once need {one * len(tasks) / 2**30:.1f} GiB")


def check_runs_at_once(learner: PureOuterStep, parameters: dict[str, Tensor], tasks: Tasks) -> None:
    """Raise a NotCapturedError unless tasks that are run by another strategy can be run all at once, with the same numbers."""

    def run(strategy: OverTasks, meta: Params, batch: Tasks) -> tuple[Params, Params]:
        return learner.outer_gradient(meta, batch, strategy)

    with torch.random.fork_rng(devices=[]):
        try:
            check_agreement("vmap", partial(run, Loop()), partial(run, Vmap(checked=False)), parameters, tasks)
        except UserError as error:
            raise NotCapturedError(str(error)) from error


def _seconds(run: Callable[[], object]) -> float:
    """The shortest of three runs, in processor time where other processes held up the clock on the wall."""
    times = []
    with one_thread():  # threads that wait for each other take processor time
        run()
        for _ in range(3):
            wall, processor = time.perf_counter(), time.process_time()
            run()
            times.append(min(time.perf_counter() - wall, time.process_time() - processor))
    return min(times)


def check_captured(learner: Learner, phase: Hashable | None) -> None:
    """Raise a NotCapturedError if the first outer step showed that the learner's steps cannot be captured."""
    if phase is None:
        raise NotCapturedError("they move more than parameters")
    if isinstance(learner.over_tasks, Auto) and not learner.over_tasks.runs_by_vmap and not is_perceptron(learner):
        raise NotCapturedError(f"tasks are run by {learner.over_tasks.name}")


def parameters_of(learner: Learner) -> dict[str, Tensor]:
    """The parameters that the outer loop learns, by name."""
    return {name: parameter for name, parameter in learner.named_parameters() if parameter.requires_grad}


def clipping_of(trainer: Trainer) -> Clipping:
    """The clipping that the trainer does."""
    limit = None if trainer.gradient_clip_val is None else float(trainer.gradient_clip_val)
    return Clipping(limit, by_norm=(trainer.gradient_clip_algorithm or "norm") == "norm")


def optimizer_state(optimizer: Optimizer, parameters: dict[str, Tensor]) -> OptimizerState:
    """Access to the state of the outer optimiser, which has taken its first step.

    Raises:
        NotCapturedError: it does not treat all parameters alike.
    """
    update = update_of(optimizer)
    assert isinstance(update, Update)
    state = OptimizerState(optimizer, parameters, update, Layout.of(parameters))
    if not state.complete:
        raise NotCapturedError("the outer optimiser does not move all parameters alike")
    return state


def arguments(state: OptimizerState, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Arguments of a :class:`StepFunction` at which the optimiser stands.

    Args:
        state: State of the optimiser.
        leaves: The tensors of a meta-batch.
    """
    vector, buffers = state.read()
    return [vector, state.table([state.rate])[0], *buffers, *leaves]


def capture(function: StepFunction, example: Sequence[Tensor], other: Sequence[Tensor]) -> tuple[CapturedStep, str]:
    """Compile an outer step.

    Args:
        function: The step.
        example: Arguments of its shapes.
        other: Other arguments, not traced with, which check the result.

    Returns:
        The compiled step and a message.

    Raises:
        NotCapturedError: the step cannot be traced or compiled, or the result differs from the plain step.
    """
    start = time.perf_counter()
    try:
        captured = CapturedStep(function, example)
        agrees = captured.agrees(other)
    except Exception as error:  # tracing and compiling fail with many kinds of error; single steps still work
        reason = " ".join(str(error).split())[:160]
        raise NotCapturedError(f"the step cannot be compiled ({type(error).__name__}: {reason})") from error
    if not agrees:
        raise NotCapturedError("the compiled meta-gradient differs from the plain one")
    return captured, f"in stretches by one compiled function, made in {time.perf_counter() - start:.0f} s"
