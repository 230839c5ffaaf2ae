"""Any environment of gymnasium, with numbers that differ from task to task."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metaloop.control.environments.environment import at_least
from metaloop.control.environments.ranges import Range, checked_ranges, drawn
from metaloop.control.environments.stateful import StatefulEnvironment, gymnasium_environment
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import Params


class GymnasiumFamily(StatefulEnvironment):
    """Environments of one kind whose attributes, or arguments of the constructor, are drawn for each task.

    Attributes are set on the unwrapped environment after it is made, as they are: what its constructor computed from them is
    not computed again. A name with dots is an attribute of an attribute, such as ``model.opt.timestep``.

    Args:
        id: name that gymnasium knows, such as "CartPole-v1".
        horizon: most steps of an episode; None for the environment's own limit.
        attributes: ranges by name; None for none.
        arguments: ranges by name; None for none.

    Raises:
        UserError: all tasks would be the same, an attribute does not exist, or the environment cannot be made.
    """

    def __init__(
        self, id: str, horizon: int | None, attributes: Mapping[str, Range] | None, arguments: Mapping[str, Range] | None
    ) -> None:
        if horizon is not None:
            at_least({"horizon": (horizon, 1)})
        parts = {"attributes": attributes or {}, "arguments": arguments or {}}
        named = {f"{part}.{name}": each for part, ranges in parts.items() for name, each in ranges.items()}
        self.id, self.limit = id, horizon
        self.ranges = checked_ranges(named, positive=False)
        if not any(low < high for low, high in self.ranges.values()):
            raise UserError(
                f"dataset.environment.attributes={attributes}, arguments={arguments}: all tasks would be the same; give one a "
                f"range, such as dataset.environment.attributes={{force_mag: [5, 15]}} for CartPole-v1"
            )
        super().__init__(id, {name: low for name, (low, _) in self.ranges.items()})

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``attributes.NAME`` and ``arguments.NAME``, (tasks,) float64 each."""
        return drawn(self.ranges, stream, numbers, torch.float64)

    def make(self, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.make`."""
        made = gymnasium_environment(self.id, self.limit, _part("arguments", values), "rl")
        return _with_attributes(made, values)

    def changed(self, environment: Any, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.changed`; made anew only if arguments of the constructor differ between tasks."""
        if _part("arguments", values):
            return super().changed(environment, values)
        return _with_attributes(environment, values)


def _part(part: str, values: Mapping[str, float]) -> dict[str, float]:
    """The values whose names begin with ``part``, without it."""
    return {key.removeprefix(f"{part}."): value for key, value in values.items() if key.startswith(f"{part}.")}


def _with_attributes(environment: Any, values: Mapping[str, float]) -> Any:
    for name, value in _part("attributes", values).items():
        *path, last = name.split(".")
        owner = environment.unwrapped
        for each in path:
            owner = getattr(owner, each, None)
        if not isinstance(getattr(owner, last, None), int | float):
            numbers = [key for key, each in getattr(owner, "__dict__", {}).items() if isinstance(each, int | float)]
            raise UserError(
                f"dataset.environment.attributes.{name}: {type(owner).__name__} has no number of this name; it has "
                f"{', '.join(sorted(numbers)) or 'none'}"
            )
        setattr(owner, last, value)
    return environment
