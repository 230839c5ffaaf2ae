"""The part of a network that no step changes, run once for each example instead of at every inner step."""

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from metaloop.learners.gradient.augmentation import NoAugmentation, SupportAugmentation
from metaloop.models.adapter import as_model
from metaloop.types import Examples, Inputs, Tasks, map_inputs

_ROWS = 256  # examples in one call, which bounds memory


class ConstantPart:
    """The constant part of a network, see :meth:`metaloop.models.model.Model.constant_part`.

    Args:
        model: the network, including attached parts.
        moving: names of the parameters that inner or outer steps change.
        augmentation: change of the inputs before the network; None for none. With one, there is no constant part.
    """

    def __init__(self, model: nn.Module, moving: Collection[str], augmentation: SupportAugmentation | None = None) -> None:
        inputs_are_fixed = augmentation is None or isinstance(augmentation, NoAugmentation)
        self.call: Callable[[Inputs], Inputs] | None = as_model(model).constant_part(moving) if inputs_are_fixed else None

    def inputs(self, x: Inputs) -> Inputs:
        """Run the constant part on (tasks, examples, *input); without one, return the inputs unchanged."""
        if self.call is None:
            return x
        first = x if isinstance(x, Tensor) else next(iter(x.values()))
        rows = map_inputs(lambda tensor: tensor.flatten(0, 1), x)
        with torch.no_grad():
            parts = [
                self.call(map_inputs(lambda tensor, start=start: tensor[start : start + _ROWS], rows))  # type: ignore[misc]
                for start in range(0, first.shape[0] * first.shape[1], _ROWS)
            ]
        return map_inputs(lambda tensor: torch.unflatten(tensor, 0, first.shape[:2]), _joined(parts))

    def examples(self, examples: Examples) -> Examples:
        """Replace the inputs of examples by the outputs of :meth:`inputs`."""
        return examples if self.call is None else replace(examples, x=self.inputs(examples.x))

    def tasks(self, tasks: Tasks) -> Tasks:
        """Replace the inputs of tasks by the outputs of :meth:`inputs`."""
        if self.call is None:
            return tasks
        return replace(tasks, support=self.examples(tasks.support), query=self.examples(tasks.query))


def _joined(parts: list[Inputs]) -> Inputs:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return {name: torch.cat([part[name] for part in parts if not isinstance(part, Tensor)]) for name in first}
