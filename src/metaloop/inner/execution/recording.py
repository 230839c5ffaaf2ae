"""A function of tensors as the flat list of the tensor operations that it runs.

The Python around them (``torch.func``'s levels, the parameter swapping of ``functional_call``) then does not run at every call.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from metaloop.system.operators import recordable


def recorded(function: Callable[..., Any], arguments: tuple[Any, ...], *, compiled: bool) -> Callable[..., Any]:
    """Return ``function`` for arguments of these shapes, as a recording of its operations.

    What the function does apart from them happens once, now. Tensors that it reads and does not get are read again in every
    call; anything else that it reads is a constant.

    Args:
        function: of pytrees of tensors, with such a result.
        arguments: an example.
        compiled: whether the operations are compiled, on a GPU into CUDA graphs; otherwise they run one by one, as before.

    Raises:
        Exception: of many kinds, if the function cannot be traced.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import, and only needed here

    leaves, layout = tree_flatten(arguments)
    result: list[TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        results, out_layout = tree_flatten(function(*tree_unflatten(list(tensors), layout)))
        result[:] = [out_layout]
        return results

    if not compiled:
        with recordable():
            graph: Callable[..., list[Tensor]] = make_fx(flat)(*leaves)
        return lambda *trees: tree_unflatten(list(graph(*tree_leaves(trees))), result[0])
    on_gpu = _on_gpu(leaves)
    # CUDA graphs launch thousands of small kernels as one.
    graph = torch.compile(make_fx(flat)(*leaves), dynamic=False, mode="reduce-overhead" if on_gpu else None)

    def call(*trees: Any) -> Any:
        if on_gpu:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch declares no types for it
        results = graph(*tree_leaves(trees))
        if on_gpu:  # the next replay overwrites the results of this one
            results = [each.clone() for each in results]
        return tree_unflatten(list(results), result[0])

    return call


def _on_gpu(leaves: list[Tensor]) -> bool:
    return any(leaf.device.type == "cuda" for leaf in leaves)
