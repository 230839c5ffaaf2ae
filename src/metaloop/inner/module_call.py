"""A module as a function of its parameters, also where a parameter has several names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.types import Params


class ModuleCall:
    """Calls of a module with other parameters than its own, which leave the module as it was.

    A parameter has several names if its layer is reachable by several paths, or if layers share it. Torch's
    ``functional_call`` can then leave a passed tensor behind as the module's parameter. Here each place that holds a parameter
    is exchanged exactly once.

    Args:
        module: The module. Its layers must not be exchanged later.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._places = _places(module)  # names of all places that hold a parameter, by each of its names
        self._buffers = tuple(name for name, buffer in module.named_buffers() if buffer.is_floating_point())

    def __call__(self, parameters: Params, arguments: tuple[Any, ...], keywords: Mapping[str, Any] | None = None) -> Any:
        """Call the module with ``parameters``, by any of their names; those that are not named keep their values.

        Beside parameters in float64, buffers are passed in float64, so that any module can be called in double precision.
        """
        values = {place: value for name, value in parameters.items() for place in self._places.get(name, (name,))}
        if not values:
            return self.module(*arguments, **(keywords or {}))
        if self._buffers and any(value.dtype == torch.float64 for value in values.values()):
            values |= {name: self.module.get_buffer(name).double() for name in self._buffers}
        return functional_call(self.module, values, arguments, dict(keywords or {}), tie_weights=False)


def _places(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return one name for each place (layer and attribute) that holds a parameter, by each name of the parameter."""
    layers = {path: id(layer) for path, layer in module.named_modules(remove_duplicate=False)}
    names: dict[int, dict[tuple[int, str], str]] = {}
    found: list[tuple[str, Tensor]] = list(module.named_parameters(remove_duplicate=False))
    for name, parameter in found:
        path, _, attribute = name.rpartition(".")
        names.setdefault(id(parameter), {}).setdefault((layers[path], attribute), name)
    return {name: tuple(names[id(parameter)].values()) for name, parameter in found}
