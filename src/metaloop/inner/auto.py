"""Choosing how to run tasks by timing the candidates on the real shapes."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.over_tasks import Loop, OverTasks, TaskGradient, TaskLoss, Tree, Vmap, tree_map
from metaloop.types import Params, Tasks

_MARGIN = 1.2  # a challenger must win by this much, so that noise does not decide between equals
_MAP_MARGIN = 2.0  # of vmap in evaluation: a clear win says that many small operations, not arithmetic, take the time
_WORTH_COMPILING = 90.0  # seconds of work ahead that pay for half a minute of compiling
_SHORT = 0.05  # seconds: longer meta-gradients spend their time in large kernels, which a compiler leaves as they are
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-2}

log = logging.getLogger(__name__)
Run = Callable[[OverTasks, Params, Tasks], tuple[Params, Params]]


class Auto(OverTasks):
    """Times loop, vmap and, where much work lies ahead, compiled vmap at the first meta-batch; keeps the fastest.

    A challenger must first give the loop's meta-gradient in float64, so that a model that vmap gets wrong runs in the loop.
    The choice travels with the checkpoint: a resumed run makes none of its own.

    Args:
        expected_steps: outer steps ahead; decides whether compiling can pay.
    """

    def __init__(self, expected_steps: int) -> None:
        self.expected_steps = expected_steps
        self.chosen: OverTasks | None = None
        self.mapped: OverTasks | None = None
        self.report = ""

    @property
    def name(self) -> str:
        """The choice, once made."""
        return self.chosen.name if self.chosen else "auto"

    def choices(self) -> dict[str, str]:
        """See :meth:`OverTasks.choices`."""
        return {"gradient": self.name, "map": self.mapped.name if self.mapped else "auto"}

    def restore(self, choices: Mapping[str, str]) -> None:
        """See :meth:`OverTasks.restore`."""
        known: dict[str, OverTasks] = {each.name: each for each in (Loop(), Vmap(), Vmap(compiled=True))}
        self.chosen, self.mapped = known.get(choices.get("gradient", "")), known.get(choices.get("map", ""))

    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_gradient`."""
        return self._run(lambda strategy, m, t: strategy.mean_gradient(task, m, t), meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        return self._run(lambda strategy, m, t: strategy.mean_of_gradients(task, m, t), meta, tasks)

    def map(self, function: Callable[[Tree, Autodiff], Tree], trees: Tree) -> Tree:
        """See :meth:`OverTasks.map`; chosen apart from training, at the first call."""
        if self.mapped is None:
            self.mapped = Loop()
            with torch.random.fork_rng(devices=[]):
                try:
                    looped, vmapped = (_seconds(lambda s=s: s.map(function, trees)) for s in (Loop(), Vmap()))  # type: ignore[misc]
                except Exception:  # what vmap cannot do is many kinds of error; the loop can, or shows the user's error below
                    looped, vmapped = 0.0, 1.0
            if vmapped * _MAP_MARGIN < looped:
                self.mapped = Vmap()
        return self.mapped.map(function, trees)

    def _run(self, run: Run, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        if self.chosen is None:
            with torch.random.fork_rng(devices=_devices(meta)):  # timing must not move the random numbers of training
                self.chosen = self._choose(run, meta, tasks)
        return run(self.chosen, meta, tasks)

    def _choose(self, run: Run, meta: Params, tasks: Tasks) -> OverTasks:
        best: OverTasks = Loop()
        best_time = _seconds(lambda: run(best, meta, tasks))
        said = [f"loop {best_time * 1e3:.2f} ms"]
        for challenger in (Vmap(), Vmap(compiled=True)):
            overhead_bound = isinstance(best, Vmap) and best_time < _SHORT
            if challenger.compiled and not (overhead_bound and best_time * self.expected_steps > _WORTH_COMPILING):
                break
            try:
                if not _agree(run, challenger, meta, tasks):
                    said.append(f"{challenger.name} refused: its meta-gradient differs from the loop's")
                    continue
                seconds = _seconds(lambda strategy=challenger: run(strategy, meta, tasks))  # type: ignore[misc]
            except Exception as error:  # what vmap or the compiler cannot do is many kinds of error; the loop can
                said.append(f"{challenger.name} impossible: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
                continue
            said.append(f"{challenger.name} {seconds * 1e3:.2f} ms")
            if seconds * _MARGIN < best_time:
                best, best_time = challenger, seconds
        self.report = f"{best.name} ({'; '.join(said)})"
        log.info("tasks run by %s", self.report)
        return best


def _devices(meta: Params) -> list[torch.device]:
    return list({value.device for value in meta.values() if value.device.type == "cuda"})


def _seconds(run: Callable[[], Any]) -> float:
    """The best of three timed runs after a warm-up; a slow one is timed once."""
    best = float("inf")
    for attempt in range(4):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if seconds > 2.0 and attempt == 0:
            continue
        best = min(best, seconds) if attempt else best
        if seconds > 2.0:
            break
    return best


def _agree(run: Run, challenger: OverTasks, meta: Params, tasks: Tasks) -> bool:
    """Whether two tasks' meta-gradient equals the loop's, in float64 where the model can; compiled code in its own type."""
    few = tasks[:2]
    if isinstance(challenger, Vmap) and not challenger.compiled:
        try:
            return _equal(run, challenger, _double(meta), few.map(lambda t: t.double() if t.is_floating_point() else t))
        except RuntimeError:  # a float32 constant inside the model
            pass
    else:
        few = tasks  # compiled code is made for these shapes
    return _equal(run, challenger, meta, few)


def _double(meta: Params) -> Params:
    return {name: value.detach().double() for name, value in meta.items()}


def _equal(run: Run, challenger: OverTasks, meta: Params, tasks: Tasks) -> bool:
    expected, _ = run(Loop(), meta, tasks)
    got, _ = run(challenger, meta, tasks)
    squares = tree_map(lambda a, b: torch.stack([((a - b) ** 2).sum(), (a**2).sum()]), expected, got)
    error, size = torch.stack(list(squares.values())).sum(0).sqrt().tolist()
    dtype = next(iter(meta.values())).dtype
    return error <= _TOLERANCE.get(dtype, 1e-2) * size
