"""How a per-task function is run over the tasks of a meta-batch. The loop is the definition, the rest is speed.

All strategies give the same numbers (tested in float64); they differ in time and memory. A per-task function gets the
derivatives that work where it runs (``Eager`` in the loop, ``Functional`` under vmap).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff, Eager, Functional
from metaloop.types import Examples, Params, Tasks

TaskLoss = Callable[[Params, Examples, Examples, Autodiff], tuple[Tensor, Params]]
TaskGradient = Callable[[Params, Examples, Examples, Autodiff], tuple[Params, Params]]
Tree = TypeVar("Tree")  # tensors in dicts, tuples, Examples, ...: whatever torch.utils._pytree takes apart
Result = TypeVar("Result")  # likewise
_Sums = Callable[[Params, Examples, Examples], tuple[Params, Params]]  # of meta-parameters, support and query of stacked tasks


class OverTasks(ABC):
    """A strategy for running per-task functions."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the record says of it."""

    @abstractmethod
    def choices(self) -> dict[str, str]:
        """What was chosen by timing, for the checkpoint; empty for strategies that choose nothing."""

    @abstractmethod
    def restore(self, choices: Mapping[str, str]) -> None:
        """Take up what another process chose, so that a resumed run computes as before."""

    @abstractmethod
    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """The gradient with respect to ``meta`` of the mean of ``task``'s scalars, and what it returns beside, stacked."""

    @abstractmethod
    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """The same for a per-task function that returns its own gradient first."""

    @abstractmethod
    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """``function`` of each task's slice of ``trees``, stacked. Nothing is differentiated through it."""


class Loop(OverTasks):
    """One task after the other; memory of one task."""

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

        def own(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
            return autodiff.value_and_gradient(lambda at: task(at, support, query, autodiff), meta)

        return self.mean_of_gradients(own, meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        total: Params = {}
        asides = []
        for i in range(len(tasks)):
            one = tasks.map(lambda tensor, i=i: tensor[i])  # type: ignore[misc]
            gradients, aside = task(meta, one.support, one.query, Eager())
            total = (
                {n: total[n].add_(g) for n, g in gradients.items()} if total else {n: g.clone() for n, g in gradients.items()}
            )
            asides.append(aside)
        return {n: g.div_(len(tasks)) for n, g in total.items()}, tree_map(lambda *parts: torch.stack(parts), *asides)

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`."""
        results = [function(tree_map(lambda t, i=i: t[i], trees), Eager()) for i in range(len(tree_leaves(trees)[0]))]
        return tree_map(lambda *parts: torch.stack(parts), *results)


class Vmap(OverTasks):
    """All tasks of a chunk at once under ``torch.func.vmap``.

    Args:
        chunk: tasks at once, bounding memory; None for the whole meta-batch.
        compiled: compile the meta-gradient of a chunk, on a GPU into CUDA graphs; pays where steps are short and many, and
            needs a C++ compiler.
    """

    def __init__(self, chunk: int | None = None, *, compiled: bool = False) -> None:
        if chunk is not None and chunk < 1:
            raise UserError(f"algorithm.over_tasks.chunk={chunk}: at least 1, or null for the whole meta-batch")
        self.chunk = chunk
        self.compiled = compiled
        self._compiled: dict[Hashable, tuple[TreeSpec, _Sums]] = {}

    @property
    def name(self) -> str:
        """See :attr:`OverTasks.name`."""
        return ("compiled " if self.compiled else "") + "vmap" + (f", chunks of {self.chunk}" if self.chunk else "")

    def choices(self) -> dict[str, str]:
        """See :meth:`OverTasks.choices`."""
        return {}

    def restore(self, choices: Mapping[str, str]) -> None:
        """See :meth:`OverTasks.restore`."""

    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_gradient`."""

        def sums(meta: Params, support: Examples, query: Examples) -> tuple[Params, Params]:
            def total(at: Params) -> tuple[Tensor, Params]:
                one = torch.func.vmap(lambda s, q: task(at, s, q, Functional()), randomness="different")
                losses, aside = one(support, query)
                return losses.sum(), aside

            return torch.func.grad(total, has_aux=True)(dict(meta))

        return self._mean(("loss", task), sums, meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""

        def sums(meta: Params, support: Examples, query: Examples) -> tuple[Params, Params]:
            one = torch.func.vmap(lambda s, q: task(meta, s, q, Functional()), randomness="different")
            gradients, aside = one(support, query)
            return {name: value.sum(0) for name, value in gradients.items()}, aside

        return self._mean(("gradient", task), sums, meta, tasks)

    def _mean(self, key: Hashable, sums: _Sums, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        plain = {name: value.detach() for name, value in meta.items()}
        parts = []
        with torch.no_grad():  # torch.func differentiates by itself; no second graph beside it
            for start in range(0, len(tasks), self.chunk or len(tasks)):
                part = tasks[start : start + (self.chunk or len(tasks))]
                arguments = (plain, part.support, part.query)
                # Compiled code is kept by per-task function and shape: a new closure every step must not compile every step.
                parts.append(self._compile(key, sums, arguments)(*arguments) if self.compiled else sums(*arguments))
        gradients = tree_map(lambda *terms: sum(terms[1:], terms[0]) / len(tasks), *(gradient for gradient, _ in parts))
        return gradients, tree_map(lambda *terms: torch.cat(terms), *(aside for _, aside in parts))

    def _compile(self, key: Hashable, sums: _Sums, arguments: tuple[Params, Examples, Examples]) -> _Sums:
        leaves, layout = tree_flatten(arguments)
        key = (key, tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves))
        known = self._compiled.get(key)
        if known is None or known[0] != layout:  # a mask may be of the shape of what stood in its place before
            known = self._compiled[key] = layout, _compiled(sums, leaves, layout)
        return known[1]

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`."""
        with torch.no_grad():
            each = torch.func.vmap(lambda tree: function(tree, Functional()), chunk_size=self.chunk, randomness="different")
            return each(trees)


def _compiled(function: _Sums, leaves: list[Tensor], layout: TreeSpec) -> _Sums:
    """``function`` compiled for these shapes.

    It is traced to a flat graph of tensor operations first: nothing of the Python around it (the parameter swapping of
    ``functional_call`` above all) is left to run at every call.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # heavy, and only needed here

    outputs: list[TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        results, out_layout = tree_flatten(function(*tree_unflatten(list(tensors), layout)))
        outputs[:] = [out_layout]
        return results

    traced, on_gpu = make_fx(flat)(*leaves), _on_gpu(leaves)
    # CUDA graphs launch thousands of small kernels as one.
    graph = torch.compile(traced, dynamic=False, mode="reduce-overhead" if on_gpu else None)

    def call(meta: Params, support: Examples, query: Examples) -> tuple[Params, Params]:
        if on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        results = graph(*tree_leaves((meta, support, query)))
        if on_gpu:  # the next replay writes over what this one gave
            results = [result.clone() for result in results]
        gradients, aside = tree_unflatten(results, outputs[0])
        return gradients, aside

    return call


def _on_gpu(leaves: list[Tensor]) -> bool:
    return any(leaf.device.type == "cuda" for leaf in leaves)


def with_gradient(value: Tensor, params: Params, gradients: Params) -> Tensor:
    """A scalar equal to ``value`` whose backward pass gives ``gradients`` to ``params``.

    So meta-gradients that were computed by hand reach the optimiser, gradient clipping, loss scaling and DDP as any other.
    """
    return _WithGradient.apply(value.detach(), *params.values(), *(gradients[name] for name in params))


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[len(tensors) // 2 :])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        gradients = ctx.saved_tensors
        return None, *(outputs[0] * gradient for gradient in gradients), *(None for _ in gradients)
