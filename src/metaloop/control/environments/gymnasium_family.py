"""Any environment of gymnasium, with numbers that differ from task to task."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from metaloop.control.environments.environment import at_least
from metaloop.control.environments.ranges import Range, checked_ranges, drawn
from metaloop.control.environments.stateful import StatefulEnvironment, gymnasium_environment, observing
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import Params

_PACKAGES = {"MiniGrid": "minigrid", "BabyAI": "minigrid"}  # of environments whose names begin so
_SEED = "seed"


class GymnasiumFamily(StatefulEnvironment):
    """Environments of one kind whose attributes, or arguments of the constructor, are drawn for each task.

    Attributes are set on the unwrapped environment after it is made, as they are: what its constructor computed from them is
    not computed again. A name with dots is an attribute of an attribute, such as ``model.opt.timestep``.

    Environments whose ``reset`` draws a maze or a layout differ without that if ``one_start`` is set: all episodes of a task
    begin from its own seed.

    Args:
        id: name that gymnasium knows, such as "CartPole-v1". MiniGrid's package is imported for its names.
        horizon: most steps of an episode; None for the environment's own limit.
        attributes: ranges by name; None for none.
        arguments: ranges by name; None for none. A number that all tasks have is passed as it is.
        one_start: whether all episodes of a task begin from one seed, which each task draws.
        part: of observations that are a dict, the one that is shown; None for all, as one vector.
        divisor: what observations are divided by, above 0.

    Raises:
        UserError: all tasks would be the same, an attribute does not exist, or the environment cannot be made.
    """

    def __init__(
        self,
        id: str,
        horizon: int | None,
        attributes: Mapping[str, Range] | None,
        arguments: Mapping[str, Range] | None,
        one_start: bool = False,
        part: str | None = None,
        divisor: float = 1.0,
    ) -> None:
        if not divisor > 0:
            raise UserError(f"dataset.environment.divisor={divisor}: above 0")
        if horizon is not None:
            at_least({"horizon": (horizon, 1)})
        parts = {"attributes": attributes or {}, "arguments": arguments or {}}
        named = {f"{part}.{name}": each for part, ranges in parts.items() for name, each in ranges.items()}
        self.id, self.limit = id, horizon
        self.ranges = checked_ranges(named, positive=False)
        self.fixed = {name: each for name, each in (arguments or {}).items() if isinstance(each, int | float)}
        self.one_start, self.part, self.divisor = one_start, part, divisor
        if not one_start and not any(low < high for low, high in self.ranges.values()):
            raise UserError(
                f"dataset.environment.attributes={attributes}, arguments={arguments}: all tasks would be the same; give one a "
                f"range, such as dataset.environment.attributes={{force_mag: [5, 15]}} for CartPole-v1, or "
                f"dataset.environment.one_start=true where reset draws a layout"
            )
        values = {name: low for name, (low, _) in self.ranges.items()}
        super().__init__(id, values | ({_SEED: 0} if one_start else {}))

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``attributes.NAME`` and ``arguments.NAME``, (tasks,) float64 each, ``seed``."""
        values = drawn(self.ranges, stream, numbers, torch.float64)
        return {**values, _SEED: stream.integers(numbers, 1, _SEED, 2**31)[:, 0]} if self.one_start else values

    def make(self, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.make`."""
        package = _PACKAGES.get(self.id.split("-")[0])
        if package and find_spec(package):
            import_module(package)  # which registers its names
        made = gymnasium_environment(self.id, self.limit, _part("arguments", values) | self.fixed, "rl")
        shown = made if self.part is None else observing(made, self.part, self.id)
        return _with_attributes(shown, values)

    def changed(self, environment: Any, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.changed`; made anew only if arguments of the constructor differ between tasks."""
        if _part("arguments", values).keys() - self.fixed.keys():
            return super().changed(environment, values)
        return _with_attributes(environment, values)

    def seed(self, values: Mapping[str, float], drawn: int) -> int:
        """See :meth:`StatefulEnvironment.seed`."""
        return int(values[_SEED]) if self.one_start else drawn

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`."""
        return super().observe(parameters, state) / self.divisor


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
