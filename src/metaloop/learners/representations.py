"""A network's layers and their outputs, by name."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from metaloop.models.adapter import as_model

_LISTS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
FEATURES, OUTPUT = "<features>", "<output>"  # no module has such a name


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """List the model's layers by qualified name, in its order: blocks if it is built of blocks, otherwise single layers.

    A submodule that contains a list of modules is split into its children. Any other submodule with parameters is one layer.
    """
    layers: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if any(isinstance(each, _LISTS) for each in child.modules()):
            layers |= {f"{name}.{inner}": layer for inner, layer in layers_of(child).items()}
        elif any(True for _ in child.parameters()):
            layers[name] = child
    return layers


def by_layer(parameters: Iterable[str], layers: Iterable[str]) -> dict[str, list[str]]:
    """Group parameter names by layer; a parameter outside all layers goes to the module that holds it."""
    groups: dict[str, list[str]] = {}
    layer_names = list(layers)
    for name in parameters:
        owner = next((layer for layer in layer_names if name.startswith(f"{layer}.")), name.rpartition(".")[0] or name)
        groups.setdefault(owner, []).append(name)
    return groups


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the output of each layer in the model's last call.

    ``OUTPUT`` is the output of the whole model. ``FEATURES`` is the input of the submodule ``head``, or the output if there is
    none. Layers whose output has not one row for each example are left out.
    """
    outputs: dict[str, Tensor] = {}
    handles = [layer.register_forward_hook(partial(_keep, outputs, name)) for name, layer in layers_of(model).items()]
    handles.append(model.register_forward_hook(partial(_finish, outputs)))
    head = as_model(model).head
    if head is not None:
        handles.append(head.register_forward_pre_hook(lambda _, inputs: outputs.update({FEATURES: inputs[0].detach()})))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keep(outputs: dict[str, Tensor], name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    first = output if isinstance(output, Tensor) else output[0]  # transformer layers return tuples
    outputs[name] = first.detach()


def _finish(outputs: dict[str, Tensor], model: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    for name in [name for name, value in outputs.items() if len(value) != len(output)]:
        del outputs[name]
    outputs[OUTPUT] = output.detach()
    outputs.setdefault(FEATURES, outputs[OUTPUT])
