"""An outer step as a graph of tensor operations that another process can compute, for several runs at once."""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from metaloop.training.stretches.captured import StepFunction, traced

_aten: Any = torch.ops.aten
# Operations whose second operand may be a number or a tensor, with the form that takes a tensor.
_OF_NUMBERS = {
    _aten.mul.Tensor: _aten.mul.Tensor, _aten.mul.Scalar: _aten.mul.Tensor, _aten.div.Tensor: _aten.div.Tensor,
    _aten.div.Scalar: _aten.div.Tensor, _aten.add.Tensor: _aten.add.Tensor, _aten.sub.Tensor: _aten.sub.Tensor,
}  # fmt: skip
_VIEWS = {_aten.view.default: _aten.reshape.default, _aten._unsafe_view.default: _aten.reshape.default}


class NotPackedError(Exception):
    """The reason, in words, why a run's steps are not computed together with those of others."""


@dataclass(frozen=True)
class Program:
    """An outer step whose constants are arguments, as plain data.

    Attributes:
        graph: Pickled graph. Its arguments are those of :class:`~metaloop.training.stretches.captured.StepFunction`, and then
            the constants.
        constants: What differs between runs of one program, such as rates and fixed tensors of the network.
        key: Equal for programs that differ in their constants alone.
    """

    graph: bytes
    constants: tuple[np.ndarray, ...]
    key: str

    def module(self) -> GraphModule:
        """The graph as a function."""
        module: GraphModule = pickle.loads(self.graph)
        return module


def program_of(function: StepFunction, example: Sequence[Tensor], *, numbers: bool) -> Program:
    """Trace an outer step.

    Args:
        function: The step.
        example: Arguments of its shapes.
        numbers: Whether numbers such as rates may differ between the runs, so that they become arguments.

    Raises:
        NotPackedError: the step draws random numbers, of which each run has its own.
        Exception: of many kinds, if the function cannot be traced.
    """
    module = traced(function, example)
    constants: list[np.ndarray] = []
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            constants.append(getattr(module, node.target).detach().numpy())
            node.replace_all_uses_with(_argument(module, len(constants)))
            module.graph.erase_node(node)
        elif node.op == "call_function":
            _check_repeatable(node)
            node.target = _VIEWS.get(node.target, node.target)  # with another axis, a view may need a copy
            if numbers and node.target in _OF_NUMBERS and isinstance(node.args[1], float):
                constants.append(np.array(node.args[1], dtype=example[0].numpy().dtype))
                node.target = _OF_NUMBERS[node.target]
                node.update_arg(1, _argument(module, len(constants)))
        node.meta.clear()
    for node in module.graph.nodes:
        node.meta.clear()
    plain = GraphModule({}, module.graph)
    shapes = [(tuple(each.shape), str(each.dtype)) for each in (*example, *map(torch.from_numpy, constants))]
    key = hashlib.sha256(repr((plain.code, shapes)).encode()).hexdigest()
    return Program(pickle.dumps(plain), tuple(constants), key)


def _argument(module: GraphModule, number: int) -> Node:
    """Add an argument after the last."""
    last = [node for node in module.graph.nodes if node.op == "placeholder"][-1]
    with module.graph.inserting_after(last):
        return module.graph.placeholder(f"constant_{number}")


def _check_repeatable(node: Node) -> None:
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise NotPackedError(f"a step draws random numbers ({node.target})")
