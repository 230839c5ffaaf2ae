"""The choice of a strategy for running tasks, made by timing the candidates on the first meta-batches."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_map

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.agreement import TOLERANCE, Gradients, distance, distance_in_double, rounding
from metaloop.inner.execution.footprint import free_bytes, graph_bytes
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Result, Run, TaskGradient, TaskLoss, Tree, Vmap, kind_of
from metaloop.inner.execution.workers import Workers, cores
from metaloop.types import Params, Tasks

_MARGIN = 1.1  # a challenger must win by this much, so that noise does not decide between equals
_TRACED_MARGIN = 1.02  # for a recording of the same operations, which saves their Python and gains more in worker processes
_MAP_MARGIN = 2.0  # for vmap in evaluation: a clear win shows that many small operations, not arithmetic, take the time
_WORTH_TRACING = 20.0  # seconds of work ahead that pay for a second or two of tracing
_WORTH_COMPILING = 90.0  # seconds of work ahead that pay for half a minute of compiling
_WORTH_PROCESSES = 180.0  # seconds of work ahead that pay for starting processes, which takes a few
_FEW = 2  # tasks on which vmap must win first if tasks are slow: all at once take much memory and rarely pay
_MAPPED = 16  # tasks on which evaluation is timed: an evaluation batch holds many, and the loop takes each by itself
_SHARE = 0.5  # share of the free memory that a challenger may take
_LONG = 0.02  # seconds: a shorter meta-gradient does not pay for sending it to a process; a longer task runs large kernels
_SHORT = 0.05  # seconds: a longer meta-gradient spends its time in large kernels, which a compiler does not change
_TIMED_TWICE, _TIMED_ONCE = 0.1, 3.0  # seconds: slower runs are timed twice or once instead of three times
_CLEAR = 2.0  # times the best: a run that is so much slower has lost, whatever the noise

log = logging.getLogger(__name__)
_ANY, _MAP = "gradient", "map"


class Auto(OverTasks):
    """The fastest of the other strategies, timed at the first two meta-batches.

    Loop and vmap are always timed. Traced and compiled vmap and worker processes are timed if enough work lies ahead, at the
    second meta-batch: what needs seconds to start does not hold up the first outer step.

    A challenger that is faster must also reproduce the loop's meta-gradient in float64, so a model for which vmap is wrong runs
    in the loop. A slower one is neither timed again nor compared.
    Each kind of per-task function gets its own choice: a strategy that is right for a first-order gradient may be wrong for
    the second-order gradient that a run uses later. Checkpoints hold the choices, so a resumed run does not choose again.

    Args:
        expected_steps: outer steps that the run will take; decides whether compiling can pay.
    """

    def __init__(self, expected_steps: int) -> None:
        self.expected_steps = expected_steps
        self.chosen: dict[str, OverTasks] = {}  # by kind of per-task function; _ANY stands for a choice stored without a kind
        self.mapped: OverTasks | None = None
        self.report = ""
        self._compiles = True
        self._first_round: dict[str, _Round] = {}  # of kinds whose choice goes on at the next call

    @property
    def name(self) -> str:
        """Name of the latest choice; "auto" before the first."""
        return list(self.chosen.values())[-1].name if self.chosen else "auto"

    @property
    def runs_by_vmap(self) -> bool:
        """Whether a choice has been made, and every choice runs all tasks at once."""
        return bool(self.chosen) and all(isinstance(strategy, Vmap) for strategy in self.chosen.values())

    def allow_compiling(self, allowed: bool) -> None:
        """Say whether the meta-gradient may be compiled; by default it may. If it may again, choices of vmap are made anew."""
        if allowed and not self._compiles:
            self.chosen = {kind: strategy for kind, strategy in self.chosen.items() if not isinstance(strategy, Vmap)}
            self._first_round = {kind: state for kind, state in self._first_round.items() if kind in self.chosen}
        self._compiles = allowed

    def take_vmap(self) -> None:
        """Run all tasks at once, because that won in an equal run. What was chosen before stays."""
        self.chosen.setdefault(_ANY, Vmap(checked=False))

    def settle(self) -> None:
        """Try no further strategies: outer steps are taken otherwise from now on, and few are left for these."""
        self._first_round.clear()

    def choices(self) -> dict[str, str]:
        """See :meth:`OverTasks.choices`."""
        kinds = {kind: each.name for kind, each in self.chosen.items() if kind != _ANY and kind not in self._first_round}
        return {_ANY: "auto" if self._first_round else self.name, _MAP: self.mapped.name if self.mapped else "auto", **kinds}

    def restore(self, choices: Mapping[str, str]) -> None:
        """See :meth:`OverTasks.restore`."""
        self.mapped = _named(choices.get(_MAP, ""))
        kinds = {kind: name for kind, name in choices.items() if kind not in (_ANY, _MAP)} or {_ANY: choices.get(_ANY, "")}
        strategies = {kind: _named(name) for kind, name in kinds.items()}
        self.chosen = {kind: strategy for kind, strategy in strategies.items() if strategy}

    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_gradient`."""
        return self._run(kind_of(task), lambda strategy, m, t: strategy.mean_gradient(task, m, t), meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        return self._run(kind_of(task), lambda strategy, m, t: strategy.mean_of_gradients(task, m, t), meta, tasks)

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`; the first call chooses, independently of training."""
        if self.mapped is None:
            self.mapped, few = Loop(), tree_map(lambda tensor: tensor[:_MAPPED], trees)
            with torch.random.fork_rng(devices=[]):
                try:
                    looped = _seconds(lambda: Loop().map(function, few))
                    vmapped = _seconds(lambda: Vmap(checked=False).map(function, few), looped / _MAP_MARGIN)
                except Exception:  # vmap fails with many kinds of error; the loop works, or raises the user's own error below
                    looped, vmapped = 0.0, 1.0
            if vmapped * _MAP_MARGIN < looped:
                self.mapped = Vmap(checked=False)
        return self.mapped.map(function, trees)

    def _run(self, kind: str, run: Run, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        strategy = self.chosen.get(kind) or self.chosen.get(_ANY)
        if strategy is None or kind in self._first_round:
            with torch.random.fork_rng(devices=_devices(meta)):  # timing must not move the random numbers of training
                strategy = self.chosen[kind] = self._choose(kind, run, meta, tasks)
        return run(strategy, meta, tasks)

    def _choose(self, kind: str, run: Run, meta: Params, tasks: Tasks) -> OverTasks:
        """Return the fastest so far; there is a second round, at the next call, if a challenger is left that may pay."""
        offers: list[_Offer] = [_traced_vmap, _compiled_vmap, _workers]
        state = self._first_round.pop(kind, None)
        if state is None:
            seconds = _seconds(lambda: run(Loop(), meta, tasks))
            state = _Round(Loop(), seconds, [f"loop {seconds * 1e3:.2f} ms"])
            self._try(_vmap, state, run, meta, tasks)
            if any(self._challenger(offer, state, meta) for offer in offers):
                self._first_round[kind] = state
        else:
            for offer in offers:
                self._try(offer, state, run, meta, tasks)
        self.report = f"{state.best.name} ({'; '.join(state.messages)})"
        if kind not in self._first_round:
            log.info("tasks run by %s", self.report)
        return state.best

    def _challenger(self, offer: "_Offer", state: "_Round", meta: Params) -> OverTasks | None:
        if isinstance(state.best, Vmap) and state.seconds < _SHORT and not self._compiles:
            return None
        return offer(state.best, state.seconds, state.seconds * self.expected_steps, meta)

    def _try(self, offer: "_Offer", state: "_Round", run: Run, meta: Params, tasks: Tasks) -> None:
        challenger = self._challenger(offer, state, meta)
        if challenger is None:
            return
        margin = _TRACED_MARGIN if offer is _traced_vmap else _MARGIN
        trial = _vmap_trial if offer is _vmap else partial(_trial, margin=margin)
        seconds, message = trial(run, challenger, meta, tasks, state.seconds)
        state.messages.append(f"{challenger.name} {message}")
        if seconds * margin < state.seconds:
            state.best, state.seconds = challenger, seconds
        elif isinstance(challenger, Workers):
            challenger.close()
            self.memory_before_close = self.memory_before_close.largest(challenger.memory_before_close)


@dataclass
class _Round:
    """How far a choice is: the fastest strategy so far, its seconds an outer step, and messages for the report."""

    best: OverTasks
    seconds: float
    messages: list[str]


_Offer = Callable[[OverTasks, float, float, Params], OverTasks | None]


def _vmap(best: OverTasks, seconds: float, ahead: float, meta: Params) -> OverTasks | None:
    """Return the next challenger of ``best``; None if it cannot pay.

    Args:
        best: the fastest strategy so far.
        seconds: time of one outer step with ``best``.
        ahead: seconds of all outer steps ahead with ``best``.
        meta: the meta-parameters.
    """
    return Vmap(checked=False)


def _traced_vmap(best: OverTasks, seconds: float, ahead: float, meta: Params) -> OverTasks | None:
    return Vmap(traced=True, checked=False) if isinstance(best, Vmap) and ahead > _WORTH_TRACING else None


def _compiled_vmap(best: OverTasks, seconds: float, ahead: float, meta: Params) -> OverTasks | None:
    pays = isinstance(best, Vmap) and compiling_pays(seconds, ahead)
    return Vmap(compiled=True, checked=False) if pays else None


def compiling_pays(seconds: float, ahead: float) -> bool:
    """Whether compiling pays for a meta-gradient that takes so long, with so many seconds of them ahead."""
    return seconds < _SHORT and ahead > _WORTH_COMPILING


def fewest_steps_that_pay() -> int:
    """The number of outer steps below which compiling never pays."""
    return int(_WORTH_COMPILING / _SHORT)


def _workers(best: OverTasks, seconds: float, ahead: float, meta: Params) -> OverTasks | None:
    pays = seconds > _LONG and ahead > _WORTH_PROCESSES and cores() > 1
    compiled = isinstance(best, Vmap) and best.compiled  # every process would compile again, for the shapes of its part
    return Workers(within=best) if pays and not compiled and not _devices(meta) else None


def _vmap_trial(run: Run, challenger: OverTasks, meta: Params, tasks: Tasks, best: float) -> tuple[float, str]:
    """Call :func:`_trial` if the meta-batch fits into memory and, for slow tasks, if the challenger wins on a few of them.

    vmap holds the graphs of all tasks at once, and the system kills a process that runs out of memory.
    """
    if best > _LONG * len(tasks) and len(tasks) > _FEW:  # a loop's time grows with the tasks, so it need not be timed on few
        seconds, message = _trial(run, challenger, meta, tasks[:_FEW], best * _FEW / len(tasks), compare=False)
        if seconds * _MARGIN >= best * _FEW / len(tasks):
            return float("inf"), f"no faster on {_FEW} tasks ({message})" if seconds < float("inf") else message
    needed = graph_bytes(lambda: run(Loop(), meta, tasks[:1])) * len(tasks)
    if needed >= _SHARE * free_bytes(tasks.index.device):
        return float("inf"), f"not tried: {needed / 2**30:.1f} GiB for the meta-batch"
    return _trial(run, challenger, meta, tasks, best)


def _trial(
    run: Run, challenger: OverTasks, meta: Params, tasks: Tasks, best: float, *, compare: bool = True, margin: float = _MARGIN
) -> tuple[float, str]:
    """Return the seconds of one run, infinite if the challenger is refused, and a message for the report.

    Args:
        run: runs the tasks by a strategy.
        challenger: the strategy.
        meta: the meta-parameters.
        tasks: the tasks.
        best: seconds of the fastest strategy so far.
        compare: whether a challenger that wins must have the loop's meta-gradient.
        margin: times by which a challenger must win.
    """
    try:
        seconds = _seconds(lambda: run(challenger, meta, tasks), best)
        if compare and seconds * margin < best and not _agree(run, challenger, meta, tasks):
            return float("inf"), "refused: its meta-gradient differs from the loop's"
    except Exception as error:  # vmap, the compiler and pickle fail with many kinds of error; the loop still works
        return float("inf"), f"impossible: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return seconds, f"{seconds * 1e3:.2f} ms"


def _named(name: str) -> OverTasks | None:
    """Return the strategy named ``name``; None if it is not among those that can be chosen."""
    traced = Vmap(traced=True, checked=False)
    known: list[OverTasks] = [Loop(), Vmap(checked=False), traced, Vmap(compiled=True, checked=False)]
    if os.name == "posix":
        known += [Workers(), Workers(within=Vmap(checked=False)), Workers(within=traced)]
    return next((strategy for strategy in known if strategy.name == name), None)


def _devices(meta: Params) -> list[torch.device]:
    return list({value.device for value in meta.values() if value.device.type == "cuda"})


def _seconds(run: Callable[[], Any], enough: float = float("inf")) -> float:
    """Return the shortest of three timed runs after a warm-up; slow runs are timed twice or once.

    Args:
        run: what is timed.
        enough: a first run that takes longer than twice these seconds, after the warm-up, is not timed again.
    """
    run()
    times: list[float] = []
    while not times or len(times) < (3 if times[0] < _TIMED_TWICE else 2 if times[0] < _TIMED_ONCE else 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if times[0] > _CLEAR * enough:
            break
    return min(times)


def _agree(run: Run, challenger: OverTasks, meta: Params, tasks: Tasks) -> bool:
    """Return whether the challenger's meta-gradient of a few tasks equals the loop's.

    It is computed in float64. A recording is compared in its own type and on all tasks, whose shapes it is made for; it is
    tried only where vmap agreed. The tasks come in another order than when it was made, so that what is constant in it shows.
    """
    pair = partial(run, Loop()), partial(run, challenger)
    inner = challenger.within if isinstance(challenger, Workers) else challenger
    if isinstance(inner, Vmap) and (inner.traced or inner.compiled):
        return _close(partial(run, Vmap(checked=False)), partial(run, challenger), meta, tasks.map(lambda each: each.flip(0)))
    try:
        return distance_in_double(*pair, meta, tasks) <= TOLERANCE
    except RuntimeError:  # a constant inside the network has another type
        if not (isinstance(challenger, Workers) and isinstance(challenger.within, Loop)):
            raise
        return _close(*pair, meta, tasks[:_FEW])  # the same loop in other processes


def _close(loop: Gradients, strategy: Gradients, meta: Params, tasks: Tasks) -> bool:
    return distance(loop(meta, tasks)[0], strategy(meta, tasks)[0]) <= rounding(next(iter(meta.values())).dtype)
