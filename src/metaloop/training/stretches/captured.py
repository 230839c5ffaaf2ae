"""One outer step as a compiled function of flat vectors: meta-gradient, clipping and the optimiser's update."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from metaloop.data.episodes import Episodes
from metaloop.inner.execution.agreement import distance, rounding
from metaloop.inner.execution.over_tasks import Vmap
from metaloop.learners.learner import PureOuterStep
from metaloop.training.stretches.layout import Layout
from metaloop.training.stretches.optimizer_state import OptimizerState
from metaloop.training.stretches.products import with_thin_products
from metaloop.training.stretches.updates import Update
from metaloop.types import Tasks

log = logging.getLogger(__name__)
_SMALL = 1e-6  # that torch adds to a norm before it divides by it


@dataclass(frozen=True)
class Clipping:
    """Gradient clipping as Lightning does it.

    Attributes:
        limit: Largest norm of the whole gradient, or largest absolute value; None for no clipping.
        by_norm: Whether ``limit`` is of the norm.
    """

    limit: float | None
    by_norm: bool

    def __call__(self, gradient: Tensor) -> Tensor:
        """Clip a flat gradient."""
        if self.limit is None:
            return gradient
        if not self.by_norm:
            return gradient.clamp(-self.limit, self.limit)
        share: Tensor = self.limit / (torch.linalg.vector_norm(gradient) + _SMALL)
        return gradient * share.clamp(max=1.0)


@dataclass(frozen=True)
class StepFunction:
    """An outer step as a pure function of tensors.

    Attributes:
        learner: Computes the meta-gradient, as of its current outer step.
        layout: Places of the parameters in a vector.
        update: Update of the optimiser.
        clipping: Clipping of the gradient.
        tree: Structure of a meta-batch, whose tensors are arguments.
    """

    learner: PureOuterStep
    layout: Layout
    update: Update
    clipping: Clipping
    tree: TreeSpec

    def __call__(self, vector: Tensor, numbers: Tensor, *rest: Tensor) -> list[Tensor]:
        """Take a step.

        Args:
            vector: The parameters.
            numbers: Result of ``update.numbers_at``.
            rest: The optimiser's buffers, then the tensors of the meta-batch.

        Returns:
            The parameters after the step, the mean loss, the gradient before clipping, and the buffers after the step.
        """
        count = len(self.update.buffers)
        tasks: Tasks = tree_unflatten(list(rest[count:]), self.tree)
        meta = self.layout.unpack(vector)
        gradients, outputs = self.learner.outer_gradient(meta, tasks, Vmap(checked=False))
        gradient = self.layout.pack(gradients)
        after, buffers = self.update(vector, self.clipping(gradient), rest[:count], numbers)
        return [after, outputs["loss"].mean(), gradient, *buffers]


class CapturedStep:
    """A compiled :class:`StepFunction` for meta-batches of one shape.

    Args:
        function: The step.
        example: Arguments of its shapes.

    Raises:
        Exception: of many kinds, if the function cannot be traced or compiled.
    """

    def __init__(self, function: StepFunction, example: Sequence[Tensor]) -> None:
        self.function = function
        self._compiled = compiled(function, example)

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """Take a step; see :meth:`StepFunction.__call__`."""
        return list(self._compiled(*arguments))

    def distance(self, arguments: Sequence[Tensor]) -> float:
        """Relative distance between the gradients of the compiled and of the plain function."""
        with torch.no_grad():
            expected, actual = self.function(*arguments)[2], self(*arguments)[2]
        return distance({"": expected}, {"": actual})

    def agrees(self, arguments: Sequence[Tensor]) -> bool:
        """Whether that distance is rounding."""
        return self.distance(arguments) <= rounding(arguments[0].dtype)


def run_steps(
    step: CapturedStep, state: OptimizerState, rates: Sequence[float], batches: Iterable[tuple[Sequence[Tensor], Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Take outer steps, and write their result into the optimiser.

    Args:
        step: The compiled step.
        state: State of the optimiser.
        rates: Learning rate of each step.
        batches: Result of :func:`meta_batches`.

    Returns:
        The loss of each step, and the numbers of its tasks.
    """
    losses = []
    vector, buffers = state.read()
    with torch.no_grad(), one_thread():
        for numbers, (leaves, index) in zip(state.table(rates).unbind(), batches, strict=True):
            vector, loss, _, *buffers = step(vector, numbers, *buffers, *leaves)
            losses.append((loss, index))
    state.write(vector, buffers, len(losses))
    return losses


@contextmanager
def one_thread() -> Iterator[None]:
    """Run small operations without waiting for other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def meta_batches(episodes: Episodes, size: int, first: int, stop: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Draw the meta-batches of the outer steps from ``first`` up to ``stop`` (exclusive), each of ``size`` tasks.

    Yields:
        The tensors of a meta-batch, as :func:`leaves_of` orders them, and the numbers of its tasks.
    """
    for leaves, index in stacked_batches(episodes, size, first, stop):
        yield from zip(zip(*(leaf.unbind() for leaf in leaves), strict=True), index.unbind(), strict=True)


def stacked_batches(episodes: Episodes, size: int, first: int, stop: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Draw the meta-batches of :func:`meta_batches` in blocks of several steps.

    Yields:
        Tensors (steps, tasks, ...), and the numbers of the tasks (steps, tasks).
    """
    for block in episodes.blocks(first * size, stop * size, size):
        shape = (len(block) // size, size)
        yield [torch.unflatten(leaf, 0, shape) for leaf in leaves_of(block)[0]], torch.unflatten(block.index, 0, shape)


def leaves_of(tasks: Tasks) -> tuple[list[Tensor], TreeSpec]:
    """The tensors of a meta-batch, contiguous, and its structure."""
    leaves, tree = tree_flatten(tasks)
    return [leaf.contiguous() for leaf in leaves], tree


def compiled(function: Callable[..., Sequence[Tensor]], example: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Trace a function to a flat graph and compile it into one C++ function, which is called without guards."""
    from torch._inductor import config as inductor_config  # slow to import, and only needed here
    from torch._inductor import standalone_compile

    graph = traced(function, example)
    # Without cpp_wrapper, Python calls every kernel. Kernels are too short to wait for a second thread.
    with torch.no_grad(), inductor_config.patch({"cpp_wrapper": True, "cpp.threads": 1}):
        return standalone_compile(graph, list(example), dynamic_shapes="from_example_inputs")


def traced(function: Callable[..., Sequence[Tensor]], example: Sequence[Tensor]) -> GraphModule:
    """Trace a function of tensors to a flat graph of tensor operations, with products of thin matrices as their factors."""
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import, and only needed here

    with torch.no_grad():
        graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*example)
    try:
        return with_thin_products(graph, example)
    except Exception as error:  # a shape that was not thought of; the graph works as it is
        log.warning("products are taken as they are: %s: %s", type(error).__name__, error)
        return graph
