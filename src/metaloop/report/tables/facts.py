"""A run's settings by name: the choice of a group, a key of its config, or a fact of its meta-test."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from metaloop.errors import UserError
from metaloop.records.runs import INCIDENTAL, Run
from metaloop.records.schema import MetaTest
from metaloop.report import formats
from metaloop.system.suggestions import did_you_mean

Fact = str | int | float | bool | None
_TEST: Mapping[str, Callable[[MetaTest], Any]] = {
    "split": lambda test: test.split,
    "ways": lambda test: test.ways,
    "shots": lambda test: test.shots,
    "queries": lambda test: test.queries,
    "norm_mode": lambda test: test.norm_mode,
    "transductive": lambda test: test.transductive,
    "metric": lambda test: test.metric.name,
    "episodes": lambda test: test.episodes,
    "level": lambda test: test.level,
}
_MISSING = object()


def fact(run: Run, key: str) -> Fact:
    """Look up the run's value of ``key``; None if it has none, such as the inner steps of a learner without an inner loop.

    Args:
        run: the run.
        key: ``seed``, ``name``, ``setting``, a group (``dataset``, ``algorithm/rule``), a key of the config
            (``algorithm.rule.lr``), or one of the meta-test (``shots``, ``norm_mode``).
    """
    value = _value(run, key)
    return None if value is _MISSING else value


def _value(run: Run, key: str) -> Any:
    if key in ("name", "seed"):
        return run.name if key == "name" else run.seed
    if key == "setting":
        return run.test.setting
    if key in run.record.choices:
        return run.record.choices[key]
    if key in _TEST:
        return _plain(_TEST[key](run.test))
    node: Any = run.record.config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return _MISSING
        node = node[part]
    return _plain(node)


def _plain(value: Any) -> Fact:
    """Turn mappings and lists into text, which can be compared and hashed."""
    if isinstance(value, list | tuple):
        return formats.span((value[0], value[1])) if len(value) == 2 else ", ".join(map(str, value))
    return str(value) if isinstance(value, Mapping) else value


def checked_keys(runs: Sequence[Run], keys: Iterable[str]) -> tuple[str, ...]:
    """Check that at least one run has each key; return the keys.

    Raises:
        UserError: no run has one of the keys; names similar keys.
    """
    keys = tuple(keys)
    for key in keys:
        if all(_value(run, key) is _MISSING for run in runs):
            known = ["seed", "name", "setting", *_TEST, *_known(runs)]
            axes = ", ".join(varied(runs)) or "none"
            raise UserError(f"no run has the key {key!r}; {did_you_mean(key, known)}keys in which these runs differ: {axes}")
    return keys


def _known(runs: Sequence[Run]) -> list[str]:
    def leaves(node: Mapping[str, Any], prefix: str) -> Iterable[str]:
        for key, value in node.items():
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from leaves(value, f"{prefix}{key}.")

    keys = dict.fromkeys(key for run in runs for key in [*run.record.choices, *leaves(run.record.config, "")])
    return list(keys)


def varied(runs: Sequence[Run]) -> tuple[str, ...]:
    """Keys that were overridden in some run and in which runs differ, without those of ``INCIDENTAL`` such as the seed.

    A key is left out if it separates the runs exactly as an earlier key does whose values are names, such as a step size
    that each algorithm has for itself.
    """
    keys = dict.fromkeys(_key(text) for run in runs for text in run.record.overrides)
    result: dict[str, None] = {}
    named: set[tuple[int, ...]] = set()  # partitions of the runs by keys whose values are names
    for key in keys:
        if not key or key.split(".")[0].split("/")[0] in INCIDENTAL:
            continue
        numbers: dict[Fact, int] = {}
        partition = tuple(numbers.setdefault(fact(run, key), len(numbers)) for run in runs)
        if len(numbers) > 1 and partition not in named:
            result[key] = None
            named |= {partition} if all(isinstance(value, str) for value in numbers) else set()
    return tuple(result)


def differing(runs: Sequence[Run]) -> tuple[str, ...]:
    """Keys in which runs differ, overridden or not, without those of ``INCIDENTAL`` such as the seed."""
    keys = [key for key in ("setting", *_TEST, *_known(runs)) if key.split(".")[0].split("/")[0] not in INCIDENTAL]
    return tuple(key for key in keys if len({fact(run, key) for run in runs}) > 1)


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~").split("@")[0]


def levels(values: Iterable[Fact]) -> list[Fact]:
    """Distinct values: numbers first, ascending, then all others in order of appearance."""
    unique = list(dict.fromkeys(values))
    numbers = [value for value in unique if isinstance(value, int | float) and not isinstance(value, bool)]
    return [*sorted(numbers), *(value for value in unique if isinstance(value, bool) or not isinstance(value, int | float))]


def show(value: Fact) -> str:
    """Text of a value for display."""
    if value is None:
        return formats.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def fits(value: Fact, text: str) -> bool:
    """Whether a text stands for a value, as displayed or as in configs (``0.001``, ``1e-3``; ``yes``, ``true``)."""
    if text == show(value):
        return True
    if value is None or isinstance(value, bool):
        return text.lower() in {None: ("none", "null"), True: ("true",), False: ("false",)}[value]
    try:
        return isinstance(value, int | float) and float(text) == value
    except ValueError:
        return False


def short(key: str) -> str:
    """Last part of a key."""
    return key.rpartition(".")[2].rpartition("/")[2]


def titled(key: str, value: Fact) -> str:
    """Text of a value with its key if the value is not a name: ``anil``, but ``steps = 5``."""
    return show(value) if isinstance(value, str) else f"{short(key)} = {show(value)}"


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Map keys to their last parts where these are unique, else to themselves."""
    words = [short(key) for key in keys]
    return {key: word if words.count(word) == 1 else key for key, word in zip(keys, words, strict=True)}
