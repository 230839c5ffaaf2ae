"""Products of small matrices, task by task, kept as their factors where that saves arithmetic and memory.

The weights of a task after an inner step are the shared ones minus a product of two thin matrices: errors of the support
examples and their activations. A traced step multiplies these out for every task and then multiplies the result with a few
examples. Here ``x (W - r a b)`` becomes ``x W - r (x a) b``, so that the large product is one of all tasks with shared weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

_aten: Any = torch.ops.aten
_SMALL = 2000  # multiplications; a call of the library for so few takes longer than they do
_SHORT = 8  # terms of a sum that are added one after the other rather than side by side
_VIEWS = (_aten.view.default, _aten._unsafe_view.default, _aten.reshape.default)


@dataclass(frozen=True)
class _Term:
    """``scale`` times a matrix that all tasks share, (m, n), or times the product of two factors, (b, m, k) and (b, k, n)."""

    scale: float
    factors: tuple[Tensor, ...]

    @property
    def rank(self) -> int:
        """The inner size of the product; 0 for a shared matrix."""
        return self.factors[0].shape[2] if len(self.factors) == 2 else 0

    def transposed(self) -> "_Term":
        return _Term(self.scale, tuple(factor.transpose(-1, -2) for factor in reversed(self.factors)))

    def scaled(self, scale: float) -> "_Term":
        return _Term(self.scale * scale, self.factors)


@dataclass(frozen=True)
class _Sum:
    """A sum of terms, of shape (b, m, n)."""

    shape: tuple[int, int, int]
    terms: tuple[_Term, ...]

    @property
    def rank(self) -> int:
        return sum(term.rank for term in self.terms)

    def transposed(self) -> "_Sum":
        tasks, rows, columns = self.shape
        return _Sum((tasks, columns, rows), tuple(term.transposed() for term in self.terms))

    def scaled(self, scale: float) -> "_Sum":
        return _Sum(self.shape, tuple(term.scaled(scale) for term in self.terms))

    def multiplied_out(self) -> Tensor:
        """The whole tensor."""
        return _total([_times(_product(*term.factors) if term.rank else term.factors[0], term.scale) for term in self.terms])

    def over_tasks(self) -> Tensor:
        """The sum over tasks, (1, m, n)."""
        parts = []
        for term in self.terms:
            if term.rank:
                left, right = term.factors
                whole = left.transpose(0, 1).flatten(1) @ right.flatten(0, 1)
            else:
                whole = term.factors[0] * self.shape[0]
            parts.append(_times(whole, term.scale))
        return _total(parts)[None]

    def after(self, left: Tensor) -> Tensor:
        """The product ``left @ self``, with ``left`` (b, p, m)."""
        parts = []
        for term in self.terms:
            if term.rank:
                parts.append(_product(_times(_product(left, term.factors[0]), term.scale), term.factors[1]))
            else:
                tasks, rows, columns = left.shape
                whole = left.reshape(tasks * rows, columns) @ term.factors[0]
                parts.append(_times(whole, term.scale).view(tasks, rows, -1))
        return _total(parts)


def with_thin_products(graph: GraphModule, example: Sequence[Tensor]) -> GraphModule:
    """Trace a graph anew with products of thin matrices kept as their factors.

    Args:
        graph: A graph of tensor operations.
        example: Arguments of its shapes.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import, and only needed here

    with torch.no_grad():
        return make_fx(_Lazily(graph).run, tracing_mode="fake", _allow_non_fake_inputs=True)(*example)


class _Lazily(Interpreter):
    """Runs a graph, and multiplies products out only for operations that need the whole."""

    def run_node(self, node: Node) -> Any:
        """Run an operation, on factors where it can be."""
        rule = _RULES.get(node.target) if node.op == "call_function" else None
        if rule is not None and not node.kwargs:
            result = rule(*(self.env[each] if isinstance(each, Node) else each for each in node.args))
            if result is not None:
                return result
        return super().run_node(node)

    def map_nodes_to_values(self, args: Any, n: Node) -> Any:
        """Look up the arguments of an operation that needs whole tensors."""

        def load(node: Node) -> Any:
            if isinstance(self.env[node], _Sum):
                self.env[node] = self.env[node].multiplied_out()
            return self.env[node]

        return torch.fx.node.map_arg(args, load)


def _bmm(left: Any, right: Any) -> Any:
    if isinstance(right, _Sum) and isinstance(left, Tensor):
        return right.after(left) if _saves(right, left.shape[1]) else None
    if isinstance(left, _Sum) and isinstance(right, Tensor):
        turned = left.transposed()
        return turned.after(right.transpose(1, 2)).transpose(1, 2) if _saves(turned, right.shape[2]) else None
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return None
    (tasks, rows, rank), columns = left.shape, right.shape[2]
    if rank * (rows + columns) < rows * columns:
        return _Sum((tasks, rows, columns), (_Term(1.0, (left, right)),))
    return _product(left, right)


def _saves(factors: _Sum, examples: int) -> bool:
    """Whether so many examples times factors take less arithmetic than times their product."""
    _, rows, columns = factors.shape
    return factors.rank * examples * (rows + columns) < rows * columns * factors.rank + examples * rows * columns


def _product(left: Tensor, right: Tensor) -> Tensor:
    thin = _thin(left, right)
    return torch.bmm(left, right) if thin is None else thin


def _thin(left: Tensor, right: Tensor) -> Tensor | None:
    """A product with a vector or of small matrices, elementwise, which the compiler fuses with its neighbours; else None."""
    if left.shape[-1] == 1:
        return left * right
    if right.shape[-1] == 1:
        return (left * right.transpose(-1, -2)).sum(-1, keepdim=True)
    if left.shape[-2] == 1:
        return (left.transpose(-1, -2) * right).sum(-2, keepdim=True)
    if left.dim() == 3 and left.shape[1] * left.shape[2] * right.shape[2] <= _SMALL:
        if left.shape[2] <= _SHORT:
            return (left[..., None] * right[:, None]).sum(2)
        return (left[:, :, None] * right.transpose(1, 2)[:, None]).sum(3)
    return None


def _transpose(value: Any, first: int, second: int) -> Any:
    return value.transposed() if isinstance(value, _Sum) and {first, second} <= {1, 2, -1, -2} else None


def _view(value: Any, shape: Sequence[int]) -> Any:
    """A view of what was multiplied otherwise than in the graph may have to be a copy."""
    return value.reshape(shape) if isinstance(value, Tensor) else _same_shape(value, shape)


def _same_shape(value: Any, shape: Sequence[int]) -> Any:
    return value if isinstance(value, _Sum) and tuple(shape) == value.shape else None


def _scale(value: Any, number: Any) -> Any:
    return value.scaled(float(number)) if isinstance(value, _Sum) and isinstance(number, int | float) else None


def _divide(value: Any, number: Any) -> Any:
    return _scale(value, 1 / number) if isinstance(number, int | float) else None


def _add(left: Any, right: Any, sign: float = 1.0) -> Any:
    shape = next((each.shape for each in (left, right) if isinstance(each, _Sum)), None)
    terms = None if shape is None else (_terms(left, shape), _terms(right, shape))
    if shape is None or terms is None or terms[0] is None or terms[1] is None:
        return None
    return _Sum(shape, (*terms[0], *(term.scaled(sign) for term in terms[1])))


def _terms(value: Any, shape: tuple[int, int, int]) -> tuple[_Term, ...] | None:
    """The terms of an operand; None if it must be taken whole."""
    if isinstance(value, _Sum):
        return value.terms if value.shape == shape else None
    if not isinstance(value, Tensor) or tuple(value.shape) not in (shape[1:], (1, *shape[1:])):
        return None
    return (_Term(1.0, (value.reshape(shape[1:]),)),)


def _sum(value: Any, dims: Sequence[int], keepdim: bool = False) -> Any:
    if not isinstance(value, _Sum) or list(dims) != [0]:
        return None
    return value.over_tasks() if keepdim else value.over_tasks()[0]


_RULES: dict[Any, Callable[..., Any]] = {
    _aten.bmm.default: _bmm,
    _aten.mm.default: _thin,
    _aten.transpose.int: _transpose,
    _aten.mul.Tensor: _scale,
    _aten.mul.Scalar: _scale,
    _aten.div.Tensor: _divide,
    _aten.div.Scalar: _divide,
    _aten.neg.default: lambda value: _scale(value, -1.0),
    _aten.add.Tensor: _add,
    _aten.sub.Tensor: lambda left, right: _add(left, right, -1.0),
    _aten.sum.dim_IntList: _sum,
    _aten.detach.default: lambda value: value if isinstance(value, _Sum) else None,
    _aten.expand.default: _same_shape,
    **dict.fromkeys(_VIEWS, _view),
}


def _times(value: Tensor, scale: float) -> Tensor:
    return value if math.isclose(scale, 1.0, rel_tol=0.0, abs_tol=0.0) else value * scale


def _total(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
