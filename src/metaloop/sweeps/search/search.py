"""The ``search`` block of a sweep's file: space, objectives and settings of a search. Reading it does not need Optuna."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

import yaml

from metaloop.errors import UserError
from metaloop.sweeps.override_text import override_text
from metaloop.system.suggestions import did_you_mean

Kind = Literal["float", "int", "choice"]
Direction = Literal["maximize", "minimize"]
Sampler = Literal["tpe", "random", "nsga2"]
Prune = Literal["median", "hyperband"]

# Objectives and their directions. The direction of the meta-validation score is that of its metric.
OBJECTIVES: Mapping[str, Direction | None] = {
    "validation": None,
    "tasks_per_second": "maximize",
    "peak_memory": "minimize",
    "seconds": "minimize",
}
_RANGE = ("low", "high", "log", "step")
_SEEDS = "the best of several seeds is luck; search with one seed, then run the best trial with several"
_NOT_WITH_SEARCH = ("axes", "points", "when", "seeds")


@dataclass(frozen=True)
class Parameter:
    """The values of one searched config key.

    Attributes:
        kind: "float" or "int" for a range, "choice" for ``choices``.
        low: lower end of the range, inclusive.
        high: upper end of the range, inclusive.
        log: whether the range is searched on a logarithmic scale.
        step: distance between values of the range; None for any value.
        choices: values in the form in which they are typed after ``key=``.
    """

    kind: Kind
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[str, ...] = ()

    def extremes(self) -> tuple[str, ...]:
        """All choices, or both ends of the range. If the key accepts these, it accepts every value."""
        return self.choices or (self.to_text(self.low), self.to_text(self.high))

    def to_text(self, value: Any) -> str:
        """Write a value in the form in which it is typed after ``key=``. Floats have four significant digits."""
        if self.kind == "choice":
            return str(value)
        if self.kind == "int":
            return str(int(value))
        return repr(min(max(float(f"{value:.4g}"), float(self.low)), float(self.high)))


@dataclass(frozen=True)
class Search:
    """A search for the best runs in a space of configs.

    Attributes:
        space: parameters by config key.
        trials: number of trials, including pruned and failed ones.
        objectives: directions by objective, a key of ``OBJECTIVES``; None for the direction of the metric.
        sampler: "tpe" (tree-structured Parzen estimators), "random" or "nsga2" (for several objectives).
        seed: seed of the sampler.
        warm_start: folders of finished sweeps over the same keys on other data sets, which propose the first trials.
        prune: rule that stops poor trials early: "median" of the earlier trials, or "hyperband"; None for never.

    Raises:
        UserError: a setting is invalid.
    """

    space: Mapping[str, Parameter]
    trials: int = 30
    objectives: Mapping[str, Direction | None] = field(default_factory=lambda: {"validation": None})
    sampler: Sampler = "tpe"
    seed: int = 0
    prune: Prune | None = None
    warm_start: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        folders = (self.warm_start,) if isinstance(self.warm_start, str) else self.warm_start
        object.__setattr__(self, "warm_start", tuple(map(str, folders or ())))
        _check(self)

    def identity(self) -> dict[str, Any]:
        """The parts that must not change during a search, as plain data."""
        space = {key: {**asdict(one), "choices": list(one.choices)} for key, one in self.space.items()}
        return {"space": space, "objectives": dict(self.objectives)}

    def without(self, key: str) -> "Search":
        """The same search without a key, which is then fixed.

        Raises:
            UserError: no key is left to search.
        """
        space = {name: one for name, one in self.space.items() if name != key}
        if not space:
            raise UserError(f"{key} is the only key of search.space, so it cannot be fixed")
        return replace(self, space=space)

    def with_choices(self, key: str, values: tuple[str, ...]) -> "Search":
        """The same search with ``values`` as the choices of ``key``.

        Raises:
            UserError: the key is the seed, or a setting of the search.
        """
        if key == "seed" or key.startswith("search."):
            raise UserError(f"{key}={','.join(values)}: {_SEEDS if key == 'seed' else 'must have one value'}")
        return replace(self, space={**self.space, key: Parameter("choice", choices=values)})

    def with_setting(self, key: str, value: str) -> "Search":
        """The same search with one setting changed, such as ``search.trials=60``.

        Raises:
            UserError: the setting is unknown, or its value is invalid.
        """
        name = key.removeprefix("search.")
        allowed = [one.name for one in fields(self) if one.name not in ("space", "objectives")]
        if name not in allowed:
            settings = ", ".join(f"search.{one}" for one in allowed)
            raise UserError(f"{key}={value}: {did_you_mean(name, allowed)}the settings of a search are {settings}")
        return replace(self, **{name: yaml.safe_load(value)})


def _check(search: Search) -> None:
    for name, value, least in (("trials", search.trials, 1), ("seed", search.seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"search.{name}={value!r} must be a whole number of at least {least}")
    if search.sampler not in get_args(Sampler):
        grid = "; a grid is a sweep with axes" if str(search.sampler) == "grid" else ""
        hint = did_you_mean(str(search.sampler), get_args(Sampler))
        raise UserError(f"search.sampler={search.sampler}: {hint}must be one of {', '.join(get_args(Sampler))}{grid}")
    if search.prune not in (*get_args(Prune), None):
        hint = did_you_mean(str(search.prune), get_args(Prune))
        raise UserError(f"search.prune={search.prune}: {hint}must be one of {', '.join(get_args(Prune))}, or null for none")
    if search.prune and list(search.objectives) != ["validation"]:
        raise UserError(
            f"search.prune={search.prune} needs validation as the only objective, but search.objectives has "
            f"{', '.join(search.objectives)}; set search.prune=null"
        )
    if search.warm_start and list(search.objectives) != ["validation"]:
        raise UserError(
            f"search.warm_start needs validation as the only objective, but search.objectives has "
            f"{', '.join(search.objectives)}"
        )
    if search.sampler == "nsga2" and len(search.objectives) == 1:
        raise UserError("search.sampler=nsga2 needs several objectives; set search.sampler=tpe")


def read_search(block: Any, sweep: Mapping[str, Any]) -> Search:
    """Parse the ``search`` block of a sweep's file.

    Args:
        block: the block.
        sweep: the whole file.

    Raises:
        UserError: the block is invalid.
    """
    if not isinstance(block, dict):
        raise UserError(f"search must be a mapping with a space, not {block!r}")
    for key in _NOT_WITH_SEARCH:
        if key in sweep:
            raise UserError(f"a sweep cannot have both search and {key}: put the values into search.space")
    allowed = [one.name for one in fields(Search)]
    for key in block:
        if key not in allowed:
            raise UserError(f"search.{key}: {did_you_mean(str(key), allowed)}the keys of search are {', '.join(allowed)}")
    space = block.get("space")
    if not isinstance(space, dict) or not space:
        raise UserError("search.space must have entries like key: {low: 0.01, high: 1.0, log: true}, or key: [values]")
    settings = {key: value for key, value in block.items() if key not in ("space", "objectives")}
    parameters = {str(key): _parse_parameter(str(key), value) for key, value in space.items()}
    return Search(parameters, objectives=_parse_objectives(block.get("objectives", ["validation"])), **settings)


def _parse_parameter(key: str, block: Any) -> Parameter:
    if key == "seed":
        raise UserError(f"search.space.seed: {_SEEDS}")
    if isinstance(block, list):
        values = tuple(dict.fromkeys(override_text(value) for value in block))
        if len(values) < 2:
            raise UserError(f"search.space.{key}={block} must have at least two values; put a single value into overrides")
        return Parameter("choice", choices=values)
    if not isinstance(block, dict) or not {"low", "high"} <= set(block):
        raise UserError(
            f"search.space.{key}={block!r} must be a list of values, or a range {{low: 0.01, high: 1.0, log: true}}"
        )
    for name in block:
        if name not in _RANGE:
            hint = did_you_mean(str(name), _RANGE)
            raise UserError(f"search.space.{key}.{name}: {hint}the keys of a range are {', '.join(_RANGE)}")
    low, high = (_parse_number(key, name, block[name]) for name in ("low", "high"))
    step = None if block.get("step") is None else _parse_number(key, "step", block["step"])
    return _parse_range(key, low, high, block.get("log", False), step)


def _parse_range(key: str, low: float, high: float, log: Any, step: float | None) -> Parameter:
    path = f"search.space.{key}"
    if not low < high:
        raise UserError(f"{path}: low={low:g} must be below high={high:g}")
    if not isinstance(log, bool):
        raise UserError(f"{path}.log={log!r} must be true or false")
    if log and low <= 0:
        raise UserError(f"{path}: low={low:g} on a logarithmic scale must be above 0")
    if step is not None and (log or not 0 < step <= high - low):
        raise UserError(f"{path}.step={step:g} must be above 0 and at most high - low, and cannot be used with log")
    integers = all(isinstance(value, int) for value in (low, high, step) if value is not None)
    return Parameter("int" if integers else "float", low, high, log, step)


def _parse_number(key: str, name: str, value: Any) -> float:
    """Check a number; integers stay integers. Numbers such as 1e-3 are accepted, which YAML reads as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"search.space.{key}.{name} must be a number")
    return value


def _parse_objectives(block: Any) -> dict[str, Direction | None]:
    directions = block if isinstance(block, dict) else dict.fromkeys(block if isinstance(block, list) else [block])
    if not directions:
        raise UserError(f"search.objectives is empty; it needs one or more of {', '.join(OBJECTIVES)}")
    for name, direction in directions.items():
        if name not in OBJECTIVES:
            hint = did_you_mean(str(name), OBJECTIVES)
            raise UserError(f"search.objectives: {name!r}: {hint}must be one of {', '.join(OBJECTIVES)}")
        if direction not in (*get_args(Direction), None) or (name == "validation" and direction):
            allowed = "null, since the metric has a direction" if name == "validation" else "maximize, minimize or null"
            raise UserError(f"search.objectives.{name}={direction} must be {allowed}")
    return {name: direction or OBJECTIVES[name] for name, direction in directions.items()}
