"""Strategies that run a per-task function over the tasks of a meta-batch.

The loop is the definition. All strategies give the same numbers (tested in float64) and differ in time and memory. A per-task
function gets the :class:`Autodiff` that works where it runs: ``Eager`` in the loop, ``Functional`` under vmap.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff, Eager, Functional
from metaloop.inner.execution.agreement import check_agreement
from metaloop.inner.execution.recording import recorded
from metaloop.system.memory import MemoryUse
from metaloop.types import Examples, Params, Tasks

TaskLoss = Callable[[Params, Examples, Examples, Autodiff], tuple[Tensor, Params]]
TaskGradient = Callable[[Params, Examples, Examples, Autodiff], tuple[Params, Params]]
Tree = TypeVar("Tree")  # tensors in dicts, tuples, Examples, ...: any pytree of torch.utils._pytree
Result = TypeVar("Result")  # likewise
Run = Callable[["OverTasks", Params, Tasks], tuple[Params, Params]]
_MOST_TRACES = 16  # recordings that are kept; a function of more kinds runs as it is
_Sums = Callable[[Params, Examples, Examples], tuple[Params, Params]]  # of meta-parameters, support and query of stacked tasks


class OverTasks(ABC):
    """A strategy for running per-task functions.

    Attributes:
        memory_before_close: largest memory of this process and its processes when the strategy last ended some of them.
    """

    memory_before_close = MemoryUse()

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the strategy in records."""

    @abstractmethod
    def choices(self) -> dict[str, str]:
        """Return the names of the strategies chosen by timing, for the checkpoint; empty if nothing is chosen."""

    @abstractmethod
    def restore(self, choices: Mapping[str, str]) -> None:
        """Take over the choices of an earlier process, so that a resumed run computes as before."""

    @abstractmethod
    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """Return the gradient with respect to ``meta`` of the tasks' mean loss, and the auxiliary outputs stacked over tasks.

        Args:
            task: returns one task's scalar loss and its auxiliary outputs.
            meta: the meta-parameters.
            tasks: the meta-batch.
        """

    @abstractmethod
    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """Return the mean of the gradients that ``task`` computes itself, and its auxiliary outputs stacked over tasks."""

    def check(self, kind: str, run: Run, meta: Params, tasks: Tasks) -> None:
        """Raise a UserError if this strategy is wrong for a kind of per-task function; called before the first of each kind.

        Args:
            kind: :func:`kind_of` the per-task function.
            run: calls a strategy's method with the per-task function.
            meta: the meta-parameters.
            tasks: the meta-batch.
        """
        return

    @abstractmethod
    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """Return ``function`` of each task's slice of ``trees``, stacked. No gradient flows through it."""


def of_losses(strategy: OverTasks, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
    """Call :meth:`OverTasks.mean_gradient` of a strategy; unlike a method, this function can be sent to another process."""
    return strategy.mean_gradient(task, meta, tasks)


def of_gradients(strategy: OverTasks, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
    """Call :meth:`OverTasks.mean_of_gradients` of a strategy; see :func:`of_losses`."""
    return strategy.mean_of_gradients(task, meta, tasks)


def kind_of(task: Any) -> str:
    """Return the key under which a per-task function's choice and check are kept: its type and its plain fields."""
    if isinstance(task, FunctionType | MethodType):
        return f"{task.__qualname__}()"
    fields = vars(task) if dataclasses.is_dataclass(task) else {}
    settings = [f"{key}={value}" for key, value in fields.items() if isinstance(value, bool | int | float | str)]
    return f"{type(task).__qualname__}({', '.join(settings)})"


class Loop(OverTasks):
    """One task after the other, in the memory of one task."""

    @property
    def name(self) -> str:
        """See :attr:`OverTasks.name`."""
        return "loop"

    def choices(self) -> dict[str, str]:
        """See :meth:`OverTasks.choices`."""
        return {}

    def restore(self, choices: Mapping[str, str]) -> None:
        """See :meth:`OverTasks.restore`."""

    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_gradient`."""

        def gradient(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
            return autodiff.value_and_gradient(lambda at: task(at, support, query, autodiff), meta)

        return self.mean_of_gradients(gradient, meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        total: Params = {}
        auxiliary = []
        for i in range(len(tasks)):
            one = tasks.map(lambda tensor, i=i: tensor[i])  # type: ignore[misc]
            gradients, outputs = task(meta, one.support, one.query, Eager())
            total = (
                {n: total[n].add_(g) for n, g in gradients.items()} if total else {n: g.clone() for n, g in gradients.items()}
            )
            auxiliary.append(outputs)
        return {n: g.div_(len(tasks)) for n, g in total.items()}, tree_map(lambda *parts: torch.stack(parts), *auxiliary)

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`."""
        results = [function(tree_map(lambda t, i=i: t[i], trees), Eager()) for i in range(len(tree_leaves(trees)[0]))]
        stacked: Result = tree_map(lambda *parts: torch.stack(parts), *results)
        return stacked


class Vmap(OverTasks):
    """All tasks of a chunk at once under ``torch.func.vmap``.

    Args:
        chunk: number of tasks at once, which bounds memory; None for the whole meta-batch.
        traced: record the tensor operations of a chunk's meta-gradient once, which takes a second or two, and then run them
            without the Python around them. It pays unless outer steps are few.
        compiled: compile these operations, on a GPU into CUDA graphs. It pays if outer steps are short and many, and needs a
            C++ compiler.
        checked: compare the first meta-gradient of each kind with the loop's, because vmap is wrong for some networks.

    Raises:
        UserError: the chunk is empty; later, vmap cannot run the network, or is wrong for it.
    """

    def __init__(self, chunk: int | None = None, *, traced: bool = False, compiled: bool = False, checked: bool = True) -> None:
        if chunk is not None and chunk < 1:
            raise UserError(f"algorithm.over_tasks.chunk={chunk}: at least 1, or null for the whole meta-batch")
        self.chunk = chunk
        self.traced = traced and not compiled
        self.compiled = compiled
        self.checked = checked
        self._agreed: set[str] = set()  # kinds of per-task functions whose meta-gradient was compared
        self._recorded: dict[Hashable, tuple[TreeSpec, _Sums]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the recordings, which every process makes itself."""
        return {**self.__dict__, "_recorded": {}}

    @property
    def name(self) -> str:
        """See :attr:`OverTasks.name`."""
        kind = "compiled " if self.compiled else "traced " if self.traced else ""
        return f"{kind}vmap" + (f", chunks of {self.chunk}" if self.chunk else "")

    def choices(self) -> dict[str, str]:
        """See :meth:`OverTasks.choices`."""
        return {}

    def restore(self, choices: Mapping[str, str]) -> None:
        """See :meth:`OverTasks.restore`."""

    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_gradient`."""
        self.check(kind_of(task), lambda strategy, m, t: strategy.mean_gradient(task, m, t), meta, tasks)

        def sums(meta: Params, support: Examples, query: Examples) -> tuple[Params, Params]:
            def total(at: Params) -> tuple[Tensor, Params]:
                one = torch.func.vmap(lambda s, q: task(at, s, q, Functional()), randomness="different")
                losses, auxiliary = one(support, query)
                return losses.sum(), auxiliary

            gradients, auxiliary = torch.func.grad(total, has_aux=True)(dict(meta))
            return gradients, auxiliary

        return self._mean(("loss", task), sums, meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        self.check(kind_of(task), lambda strategy, m, t: strategy.mean_of_gradients(task, m, t), meta, tasks)

        def sums(meta: Params, support: Examples, query: Examples) -> tuple[Params, Params]:
            one = torch.func.vmap(lambda s, q: task(meta, s, q, Functional()), randomness="different")
            gradients, auxiliary = one(support, query)
            return {name: value.sum(0) for name, value in gradients.items()}, auxiliary

        return self._mean(("gradient", task), sums, meta, tasks)

    def check(self, kind: str, run: Run, meta: Params, tasks: Tasks) -> None:
        """See :meth:`OverTasks.check`."""
        if not self.checked or kind in self._agreed:
            return
        self._agreed.add(kind)
        plain = Vmap(checked=False)  # the compiler changes the speed of what vmap computes
        check_agreement(self.name, lambda m, t: run(Loop(), m, t), lambda m, t: run(plain, m, t), meta, tasks)

    def _mean(self, key: Hashable, sums: _Sums, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        plain = {name: value.detach() for name, value in meta.items()}
        parts = []
        with torch.no_grad():  # torch.func differentiates by itself; a second graph would be waste
            for start in range(0, len(tasks), self.chunk or len(tasks)):
                part = tasks[start : start + (self.chunk or len(tasks))]
                arguments = (plain, part.support, part.query)
                parts.append(self._fastest(key, sums, arguments)(*arguments))
        gradients = tree_map(lambda *terms: sum(terms[1:], terms[0]) / len(tasks), *(gradient for gradient, _ in parts))
        return gradients, tree_map(lambda *terms: torch.cat(terms), *(auxiliary for _, auxiliary in parts))

    def _fastest(self, key: Hashable, sums: _Sums, arguments: tuple[Params, Examples, Examples]) -> _Sums:
        """Return ``sums`` or a recording of it.

        Recordings are kept by per-task function and shape, so that a new closure each step is not recorded again.
        """
        if not (self.traced or self.compiled):
            return sums
        leaves, layout = tree_flatten(arguments)
        key = (key, tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves))
        known = self._recorded.get(key)
        if known is None or known[0] != layout:  # equal shapes may be another tree: a mask where another tensor stood before
            if self.traced and len(self._recorded) >= _MOST_TRACES:  # a function of the step: every one would be recorded
                return sums
            known = self._recorded[key] = layout, recorded(sums, arguments, compiled=self.compiled)
        return known[1]

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`."""
        with torch.no_grad():
            mapped = torch.func.vmap(lambda tree: function(tree, Functional()), chunk_size=self.chunk, randomness="different")
            return mapped(trees)


def with_gradient(value: Tensor, params: Params, gradients: Params) -> Tensor:
    """Return a scalar equal to ``value`` whose backward pass gives ``gradients`` to ``params``.

    Meta-gradients that were computed by hand thus reach the optimiser, gradient clipping, loss scaling and DDP like any other.
    """
    tensors = (*params.values(), *(gradients[name] for name in params))
    result: Tensor = _WithGradient.apply(value.detach(), *tensors)  # type: ignore[no-untyped-call]  # torch declares no types for it
    return result


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[len(tensors) // 2 :])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        gradients = ctx.saved_tensors
        return None, *(outputs[0] * gradient for gradient in gradients), *(None for _ in gradients)
