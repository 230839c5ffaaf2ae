"""What a search looks for and where: the ``search`` block of a sweep's file, as plain data. Optuna is not needed to read it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

import yaml

from metaloop.errors import UserError
from metaloop.sweeps.text import text
from metaloop.system.suggestions import did_you_mean

Kind = Literal["float", "int", "choice"]
Direction = Literal["maximize", "minimize"]
Sampler = Literal["tpe", "random", "nsga2"]
Prune = Literal["median", "hyperband"]

# What can be searched by -> its direction; that of the meta-validation score follows its metric.
OBJECTIVES: Mapping[str, Direction | None] = {
    "validation": None,
    "tasks_per_second": "maximize",
    "peak_memory": "minimize",
    "seconds": "minimize",
}
_RANGE = ("low", "high", "log", "step")
_SEEDS = "the best of several seeds is luck; search under one seed, then run the best under several"
_FOR_RUNS = ("axes", "points", "when", "seeds")


@dataclass(frozen=True)
class Parameter:
    """One key of the config that is searched.

    Attributes:
        kind: a number of a range, a whole number of a range, or one of ``choices``.
        low, high: ends of the range, both within it.
        log: whether the range is searched on a logarithmic scale.
        step: between two numbers of the range; None for all.
        choices: values as they are typed after ``key=``.
    """

    kind: Kind
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[str, ...] = ()

    def ends(self) -> tuple[str, ...]:
        """Values as they are typed that between them show whether the key takes such values."""
        return self.choices or (self.typed(self.low), self.typed(self.high))

    def typed(self, value: Any) -> str:
        """A value as it is typed after ``key=``: four digits of a number, as many as a person would try."""
        if self.kind == "choice":
            return str(value)
        if self.kind == "int":
            return str(int(value))
        return repr(min(max(float(f"{value:.4g}"), float(self.low)), float(self.high)))


@dataclass(frozen=True)
class Search:
    """A search through a space of runs for the best by meta-validation.

    Attributes:
        space: config key to what it may be.
        trials: how many, pruned and failed ones among them.
        objectives: of ``OBJECTIVES``, to their directions; None: that of the metric.
        sampler: "tpe" (tree-structured Parzen estimators), "random" or "nsga2" (for several objectives).
        seed: of the sampler.
        prune: how trials that fall behind are stopped: "median" of the trials before, or "hyperband"; None for never.
    """

    space: Mapping[str, Parameter]
    trials: int = 30
    objectives: Mapping[str, Direction | None] = field(default_factory=lambda: {"validation": None})
    sampler: Sampler = "tpe"
    seed: int = 0
    prune: Prune | None = None

    def __post_init__(self) -> None:
        _check(self)

    def identity(self) -> dict[str, Any]:
        """What may not change while a search goes on, as JSON has it."""
        space = {key: {**asdict(one), "choices": list(one.choices)} for key, one in self.space.items()}
        return {"space": space, "objectives": dict(self.objectives)}

    def without(self, key: str) -> "Search":
        """The search with a key that is held fixed elsewhere.

        Raises:
            UserError: nothing is left to search.
        """
        space = {name: one for name, one in self.space.items() if name != key}
        if not space:
            raise UserError(f"{key} is all that is searched: leave one key of search.space free")
        return replace(self, space=space)

    def over(self, key: str, values: tuple[str, ...]) -> "Search":
        """The search with ``key`` among these values.

        Raises:
            UserError: the key is the seed, of which no value is better.
        """
        if key == "seed" or key.startswith("search."):
            raise UserError(f"{key}={','.join(values)}: {_SEEDS if key == 'seed' else 'one value'}")
        return replace(self, space={**self.space, key: Parameter("choice", choices=values)})

    def setting(self, key: str, value: str) -> "Search":
        """The search with one of its own settings changed, such as ``search.trials=60``.

        Raises:
            UserError: there is no such setting, or not with this value.
        """
        name = key.removeprefix("search.")
        allowed = [one.name for one in fields(self) if one.name not in ("space", "objectives")]
        if name not in allowed:
            near = did_you_mean(name, allowed)
            raise UserError(
                f"{key}={value}: {near}what can be set of a search is {', '.join(f'search.{one}' for one in allowed)}"
            )
        return replace(self, **{name: yaml.safe_load(value)})


def _check(search: Search) -> None:
    for name in ("trials", "seed"):
        value, least = getattr(search, name), int(name == "trials")
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"search.{name}={value!r}: a whole number, at least {least}")
    if search.sampler not in get_args(Sampler):
        grid = "; a grid is a sweep with axes" if search.sampler == "grid" else ""
        near = did_you_mean(str(search.sampler), get_args(Sampler))
        raise UserError(f"search.sampler={search.sampler}: {near}one of {', '.join(get_args(Sampler))}{grid}")
    if search.prune not in (*get_args(Prune), None):
        near = did_you_mean(str(search.prune), get_args(Prune))
        raise UserError(f"search.prune={search.prune}: {near}one of {', '.join(get_args(Prune))}, or null for none")
    if search.prune and list(search.objectives) != ["validation"]:
        raise UserError(
            f"search.prune={search.prune}: only a search by validation alone can stop trials early, this one has the "
            f"objectives {', '.join(search.objectives)}; take search.prune=null"
        )
    if search.sampler == "nsga2" and len(search.objectives) == 1:
        raise UserError("search.sampler=nsga2: is for several objectives; take tpe for one")


def read_search(told: Any, beside: Mapping[str, Any]) -> Search:
    """The ``search`` block of a sweep's file.

    Args:
        told: the block.
        beside: the whole file.

    Raises:
        UserError: it says what cannot be.
    """
    if not isinstance(told, dict):
        raise UserError(f"search is a mapping with a space, not {told!r}")
    for key in _FOR_RUNS:
        if key in beside:
            raise UserError(f"{key} beside search: a search chooses its runs itself; put what may vary into search.space")
    allowed = [one.name for one in fields(Search)]
    for key in told:
        if key not in allowed:
            raise UserError(f"search.{key}: {did_you_mean(str(key), allowed)}a search has {', '.join(allowed)}")
    space = told.get("space")
    if not isinstance(space, dict) or not space:
        raise UserError("search.space names what is searched: key: {low: 0.01, high: 1.0, log: true}, or key: [values]")
    rest = {key: value for key, value in told.items() if key not in ("space", "objectives")}
    parameters = {str(key): _parameter(str(key), value) for key, value in space.items()}
    return Search(parameters, objectives=_objectives(told.get("objectives", ["validation"])), **rest)


def _parameter(key: str, told: Any) -> Parameter:
    if key == "seed":
        raise UserError(f"search.space.seed: {_SEEDS}")
    if isinstance(told, list):
        values = tuple(dict.fromkeys(text(value) for value in told))
        if len(values) < 2:
            raise UserError(f"search.space.{key}={told}: a choice has at least two values; one alone belongs to overrides")
        return Parameter("choice", choices=values)
    if not isinstance(told, dict) or not {"low", "high"} <= set(told):
        raise UserError(f"search.space.{key}={told!r}: a list of values, or a range {{low: 0.01, high: 1.0, log: true}}")
    for name in told:
        if name not in _RANGE:
            raise UserError(f"search.space.{key}.{name}: {did_you_mean(str(name), _RANGE)}a range has {', '.join(_RANGE)}")
    low, high = (_number(key, name, told[name]) for name in ("low", "high"))
    step = None if told.get("step") is None else _number(key, "step", told["step"])
    return _range(key, low, high, told.get("log", False), step)


def _range(key: str, low: float, high: float, log: Any, step: float | None) -> Parameter:
    where = f"search.space.{key}"
    if not low < high:
        raise UserError(f"{where}: low={low:g} must be below high={high:g}")
    if not isinstance(log, bool):
        raise UserError(f"{where}.log={log!r}: true or false")
    if log and low <= 0:
        raise UserError(f"{where}: low={low:g} on a logarithmic scale must be above 0")
    if step is not None and (log or not 0 < step <= high - low):
        raise UserError(f"{where}.step={step:g}: above 0, at most high - low, and not with log")
    whole = all(isinstance(value, int) for value in (low, high, step) if value is not None)
    return Parameter("int" if whole else "float", low, high, log, step)


def _number(key: str, name: str, value: Any) -> float:
    """Whole numbers stay whole; YAML takes 1e-3 for a word, people do not."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"search.space.{key}.{name}: a number")
    return value


def _objectives(told: Any) -> dict[str, Direction | None]:
    given = told if isinstance(told, dict) else dict.fromkeys(told if isinstance(told, list) else [told])
    if not given:
        raise UserError(f"search.objectives is empty; it has any of {', '.join(OBJECTIVES)}")
    for name, direction in given.items():
        if name not in OBJECTIVES:
            near = did_you_mean(str(name), OBJECTIVES)
            raise UserError(f"search.objectives: {name!r}: {near}objectives are {', '.join(OBJECTIVES)}")
        if direction not in (*get_args(Direction), None) or (name == "validation" and direction):
            allowed = "null, as it follows the metric" if name == "validation" else "maximize, minimize or null"
            raise UserError(f"search.objectives.{name}={direction}: {allowed}")
    return {name: direction or OBJECTIVES[name] for name, direction in given.items()}
