"""What a sweep runs: from axes, points, conditions and seeds to lists of overrides."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.sweeps.search import Search, read_search
from metaloop.sweeps.text import text
from metaloop.system.suggestions import did_you_mean

Values = tuple[str, ...]
Axes = Mapping[str, Values]
_KEYS = ("overrides", "axes", "points", "when", "seeds", "search")


@dataclass(frozen=True)
class Condition:
    """Axes that only some points have.

    Attributes:
        matches: key to the values of which it must have one.
        axes: what is then swept too.
    """

    matches: Axes
    axes: Axes

    def holds(self, point: Mapping[str, str]) -> bool:
        """Whether a point has these axes."""
        return all(point.get(key) in values for key, values in self.matches.items())


@dataclass(frozen=True)
class Plan:
    """A sweep: every point with every value of every axis, under every seed; or a search, which chooses its runs itself.

    Attributes:
        name: of its folder and of the group of its runs.
        overrides: key to value, the same for all runs.
        axes: key to the values that are swept.
        points: further settings, each a key to value; one empty point where only axes are swept.
        when: conditions, in the order in which they are looked at.
        seeds: outermost, so that all points have run once before any runs again; empty for the config's own.
        search: instead of axes, points, conditions and seeds.
    """

    name: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)
    points: Sequence[Mapping[str, str]] = ({},)
    when: Sequence[Condition] = ()
    seeds: Values = ()
    search: Search | None = None

    def with_fixed(self, key: str, value: str) -> "Plan":
        """The same sweep with ``key`` held at ``value``, whether it was swept or not."""
        if self.search is not None:
            return self._with_fixed_in(self.search, key, value)
        if key == "seed":
            return replace(self, seeds=(value,))
        when = [replace(one, axes={name: values for name, values in one.axes.items() if name != key}) for one in self.when]
        return replace(
            self,
            overrides={**self.overrides, key: value},
            axes={name: values for name, values in self.axes.items() if name != key},
            points=[{name: v for name, v in point.items() if name != key} for point in self.points],
            when=when,
        )

    def _with_fixed_in(self, search: Search, key: str, value: str) -> "Plan":
        if key.startswith("search."):
            return replace(self, search=search.setting(key, value))
        return replace(self, overrides={**self.overrides, key: value}, search=search.without(key))

    def with_axis(self, key: str, values: Values) -> "Plan":
        """The same sweep over other values of ``key``; a search chooses among them."""
        if self.search is not None:
            overrides = {name: value for name, value in self.overrides.items() if name != key}
            return replace(self, overrides=overrides, search=self.search.over(key, values))
        if key == "seed":
            return replace(self, seeds=values)
        free = self.with_fixed(key, values[0])
        overrides = {name: value for name, value in free.overrides.items() if name != key}
        return replace(free, overrides=overrides, axes={**free.axes, key: values})

    def runs(self) -> list[dict[str, str]]:
        """The overrides of every run, key to value, without repetitions."""
        found: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        for seed in self.seeds or (None,):
            for point in self._points():
                run = {**self.overrides, **point} | ({} if seed is None else {"seed": seed})
                found.setdefault(tuple(sorted(run.items())), run)
        return list(found.values())

    def varied(self) -> tuple[str, ...]:
        """The keys in which runs differ, in the order of the plan."""
        runs = self.runs()
        keys = dict.fromkeys(key for run in runs for key in run)
        return tuple(key for key in keys if len({run.get(key) for run in runs}) > 1)

    def _points(self) -> Iterator[dict[str, str]]:
        for point in self.points:
            for own in _product(self.axes):
                found = [{**own, **point}]
                for condition in self.when:
                    found = [
                        {**each, **more}
                        for each in found
                        for more in (_product(condition.axes) if condition.holds({**self.overrides, **each}) else ({},))
                    ]
                yield from found


def _product(axes: Axes) -> Iterator[dict[str, str]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def read_plan(name: str, config_dirs: Sequence[str] = ()) -> Plan:
    """The sweep of ``conf/sweep/<name>.yaml``, ours or in one of ``config_dirs``.

    Raises:
        UserError: there is no such sweep, or its file says what cannot be; names the file.
    """
    folders = [*map(Path, config_dirs), conf_dir()]
    found = {path.stem: path for folder in reversed(folders) for path in sorted((folder / "sweep").glob("*.yaml"))}
    if name not in found:
        raise UserError(f"there is no sweep {name!r}; {did_you_mean(name, found)}sweeps: {', '.join(found) or 'none'}")
    try:
        told = yaml.safe_load(found[name].read_text()) or {}
        if not isinstance(told, dict):
            raise UserError("it is no mapping")
        return _plan(name, told)
    except (yaml.YAMLError, UserError) as error:
        raise UserError(f"{found[name]}: {error}") from error


def _plan(name: str, told: Mapping[str, Any]) -> Plan:
    for key in told:
        if key not in _KEYS:
            raise UserError(f"{key!r} is no part of a sweep; {did_you_mean(str(key), _KEYS)}it has {', '.join(_KEYS)}")
    points = [_point(point) for point in _list(told, "points")]
    return Plan(
        name,
        overrides=_point(told.get("overrides") or {}),
        axes=_axes(told.get("axes") or {}),
        points=points or ({},),
        when=[_condition(one) for one in _list(told, "when")],
        seeds=_seeds(told.get("seeds")),
        search=read_search(told["search"], told) if "search" in told else None,
    )


def _list(told: Mapping[str, Any], key: str) -> list[Any]:
    value = told.get(key) or []
    if not isinstance(value, list):
        raise UserError(f"{key} is a list")
    return value


def _condition(told: Any) -> Condition:
    if not isinstance(told, dict) or set(told) != {"if", "axes"}:
        raise UserError("each of `when` has an `if` (key: value, or a list of values) and `axes`")
    return Condition(_axes(told["if"]), _axes(told["axes"]))


def _axes(told: Any) -> dict[str, Values]:
    if not isinstance(told, dict):
        raise UserError(f"axes are key: [values], not {told!r}")
    axes = {str(key): tuple(text(v) for v in (value if isinstance(value, list) else [value])) for key, value in told.items()}
    for key, values in axes.items():
        if not values:
            raise UserError(f"the axis {key} has no value")
        if key == "seed":
            raise UserError("seeds have a place of their own: seeds: [0, 1, 2]")
    return axes


def _point(told: Any) -> dict[str, str]:
    if not isinstance(told, dict):
        raise UserError(f"a point is key: value, not {told!r}")
    return {str(key): text(value) for key, value in told.items()}


def _seeds(told: Any) -> Values:
    if told is None:
        return ()
    if isinstance(told, int) and not isinstance(told, bool) and told > 0:
        return tuple(str(seed) for seed in range(told))
    if isinstance(told, list) and told and all(isinstance(seed, int) for seed in told):
        return tuple(str(seed) for seed in told)
    raise UserError(f"seeds is how many, or a list of them, not {told!r}")
