"""What of a network nothing changes: called once for an example, without a graph, rather than at every inner step."""

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from metaloop.learners.gradient.augmentation import Augmentation, Unchanged
from metaloop.models.adapter import as_model
from metaloop.types import Examples, Inputs, Tasks, map_inputs

_ROWS = 256  # examples that it sees at once, which bounds memory


class ConstantPart:
    """The constant part of a network whose other parameters move; see :meth:`metaloop.models.model.Model.constant_part`.

    Args:
        model: the network, complete with all that is added to it.
        moving: names of the parameters that an inner or outer step changes.
        augmentation: what is done to inputs before the network sees them; None for nothing.
    """

    def __init__(self, model: nn.Module, moving: Collection[str], augmentation: Augmentation | None = None) -> None:
        alone = augmentation is None or isinstance(augmentation, Unchanged)
        self.call: Callable[[Inputs], Inputs] | None = as_model(model).constant_part(moving) if alone else None

    def inputs(self, x: Inputs) -> Inputs:
        """(tasks, examples, *input) as what the network takes in their place; as they are where nothing is constant."""
        if self.call is None:
            return x
        first = x if isinstance(x, Tensor) else next(iter(x.values()))
        rows = map_inputs(lambda tensor: tensor.flatten(0, 1), x)
        with torch.no_grad():
            parts = [
                self.call(map_inputs(lambda tensor, start=start: tensor[start : start + _ROWS], rows))  # type: ignore[misc]
                for start in range(0, first.shape[0] * first.shape[1], _ROWS)
            ]
        whole = _joined(parts)
        return map_inputs(lambda tensor: tensor.unflatten(0, first.shape[:2]), whole)

    def examples(self, examples: Examples) -> Examples:
        """The same examples with such inputs."""
        return examples if self.call is None else replace(examples, x=self.inputs(examples.x))

    def tasks(self, tasks: Tasks) -> Tasks:
        """The same tasks with such inputs."""
        if self.call is None:
            return tasks
        return replace(tasks, support=self.examples(tasks.support), query=self.examples(tasks.query))


def _joined(parts: list[Inputs]) -> Inputs:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return {name: torch.cat([part[name] for part in parts if not isinstance(part, Tensor)]) for name in first}
