"""A network's layers, as people speak of them, and what they answer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from metaloop.models.adapter import as_model

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
FEATURES, OUTPUT = "<features>", "<output>"  # no module has such a name


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The model's layers by qualified name, in its order: blocks where it is built of blocks, else single layers.

    A submodule that holds a list of modules somewhere is taken apart; what has none is one layer, if it has parameters.
    """
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if any(isinstance(each, _LISTS) for each in child.modules()):
            found |= {f"{name}.{inner}": layer for inner, layer in layers_of(child).items()}
        elif any(True for _ in child.parameters()):
            found[name] = child
    return found


def by_layer(parameters: Iterable[str], layers: Iterable[str]) -> dict[str, list[str]]:
    """Parameter names by the layer they belong to; one outside all layers by the module that holds it."""
    groups: dict[str, list[str]] = {}
    known = list(layers)
    for name in parameters:
        own = next((layer for layer in known if name.startswith(f"{layer}.")), name.rpartition(".")[0] or name)
        groups.setdefault(own, []).append(name)
    return groups


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within it, the last call of the model fills a mapping with what each of its layers answered.

    The whole model's answer is ``OUTPUT``; what a submodule ``head`` got to see, or the answer where there is none, is
    ``FEATURES``. Answers of layers that are not one row an example are left out.
    """
    seen: dict[str, Tensor] = {}
    handles = [layer.register_forward_hook(partial(_keep, seen, name)) for name, layer in layers_of(model).items()]
    handles.append(model.register_forward_hook(partial(_finish, seen)))
    head = as_model(model).head
    if head is not None:
        handles.append(head.register_forward_pre_hook(lambda _, inputs: seen.update({FEATURES: inputs[0].detach()})))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    first = output if isinstance(output, Tensor) else output[0]  # transformer layers answer tuples
    seen[name] = first.detach()


def _finish(seen: dict[str, Tensor], model: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    for name in [name for name, value in seen.items() if len(value) != len(output)]:
        del seen[name]
    seen[OUTPUT] = output.detach()
    seen.setdefault(FEATURES, seen[OUTPUT])
