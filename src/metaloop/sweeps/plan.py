"""Plans of sweeps: from axes, points, conditions and seeds to the overrides of every run."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.sweeps.override_text import override_text
from metaloop.sweeps.search.search import Search, read_search
from metaloop.system.suggestions import did_you_mean

Values = tuple[str, ...]
Axes = Mapping[str, Values]
_KEYS = ("overrides", "axes", "points", "when", "seeds", "search", "evaluations", "inspect")
_BLOCKS = ("points", "evaluations")


@dataclass(frozen=True)
class Condition:
    """Axes of only those points that match.

    Attributes:
        matches: for each key, the values that match.
        axes: the axes of matching points.
    """

    matches: Axes
    axes: Axes

    def holds(self, point: Mapping[str, str]) -> bool:
        """Whether a point matches."""
        return all(point.get(key) in values for key, values in self.matches.items())


@dataclass(frozen=True)
class Plan:
    """A sweep: every point with every value of every axis and every seed; or a search, which chooses its runs.

    Attributes:
        name: name of the sweep's folder and of the group of its runs.
        overrides: value by key, for all runs.
        axes: swept values by key.
        points: further settings, each with values by key; one empty point if only axes are swept.
        when: conditions, applied in order.
        seeds: seeds of the outermost loop, so that every point runs once before any runs again; empty for the config's seed.
        search: search that takes the place of axes, points, conditions and seeds; None for none.
        evaluations: overrides by key, with each of which ``metaloop study`` evaluates every finished run.
        inspect: episodes over which ``metaloop study`` inspects every finished run in the first of these; 0 for none.
    """

    name: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    axes: Axes = field(default_factory=dict)
    points: Sequence[Mapping[str, str]] = ({},)
    when: Sequence[Condition] = ()
    seeds: Values = ()
    search: Search | None = None
    evaluations: Sequence[Mapping[str, str]] = ()
    inspect: int = 0

    def with_fixed(self, key: str, value: str) -> "Plan":
        """The same sweep with ``key`` fixed at ``value``, whether it was swept before or not."""
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
            return replace(self, search=search.with_setting(key, value))
        return replace(self, overrides={**self.overrides, key: value}, search=search.without(key))

    def with_axis(self, key: str, values: Values) -> "Plan":
        """The same sweep with ``values`` as the axis of ``key``; a search chooses between them."""
        if self.search is not None:
            overrides = {name: value for name, value in self.overrides.items() if name != key}
            return replace(self, overrides=overrides, search=self.search.with_choices(key, values))
        if key == "seed":
            return replace(self, seeds=values)
        fixed = self.with_fixed(key, values[0])
        overrides = {name: value for name, value in fixed.overrides.items() if name != key}
        return replace(fixed, overrides=overrides, axes={**fixed.axes, key: values})

    def runs(self) -> list[dict[str, str]]:
        """The overrides of every run, as values by key, without duplicates."""
        unique: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        for seed in self.seeds or (None,):
            for point in self._points():
                run = {**self.overrides, **point} | ({} if seed is None else {"seed": seed})
                unique.setdefault(tuple(sorted(run.items())), run)
        return list(unique.values())

    def varied(self) -> tuple[str, ...]:
        """The keys whose values differ between runs, in the order of the plan."""
        runs = self.runs()
        keys = dict.fromkeys(key for run in runs for key in run)
        return tuple(key for key in keys if len({run.get(key) for run in runs}) > 1)

    def _points(self) -> Iterator[dict[str, str]]:
        for point in self.points:
            for values in _product(self.axes):
                points = [{**values, **point}]
                for condition in self.when:
                    points = [
                        {**each, **more}
                        for each in points
                        for more in (_product(condition.axes) if condition.holds({**self.overrides, **each}) else ({},))
                    ]
                yield from points


def _product(axes: Axes) -> Iterator[dict[str, str]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def read_plan(name: str, config_dirs: Sequence[str] = ()) -> Plan:
    """Read the sweep ``conf/sweep/<name>.yaml`` from this package or from one of ``config_dirs``.

    Raises:
        UserError: there is no such sweep, or its file is invalid. The message names the file.
    """
    folders = [*map(Path, config_dirs), conf_dir()]
    paths = {path.stem: path for folder in reversed(folders) for path in sorted((folder / "sweep").glob("*.yaml"))}
    if name not in paths:
        raise UserError(f"there is no sweep {name!r}; {did_you_mean(name, paths)}sweeps: {', '.join(paths) or 'none'}")
    try:
        content = OmegaConf.to_container(OmegaConf.load(paths[name]), resolve=False)  # reads 1e-3 as a number, as configs do
        if not isinstance(content, dict):
            raise UserError("the file is not a mapping")
        return _parse_plan(name, {str(key): value for key, value in content.items()})
    except (yaml.YAMLError, OSError, OmegaConfBaseException, UserError) as error:
        raise UserError(f"{paths[name]}: {error}") from error


def _parse_plan(name: str, content: Mapping[str, Any]) -> Plan:
    for key in content:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            raise UserError(f"{key!r} is not a key of a sweep; {hint}the keys are {', '.join(_KEYS)}")
    points, evaluations = ([each for block in _list(content, key) for each in _parse_points(block)] for key in _BLOCKS)
    inspect = content.get("inspect", 0)
    if (
        isinstance(inspect, bool)
        or not isinstance(inspect, int)
        or inspect < 0
        or inspect == 1
        or (inspect and not evaluations)
    ):
        raise UserError(f"inspect must be a number of episodes, at least 2, beside evaluations, not {inspect!r}")
    return Plan(
        name,
        overrides=_parse_point(content.get("overrides") or {}),
        axes=_parse_axes(content.get("axes") or {}),
        points=points or ({},),
        when=[_parse_condition(one) for one in _list(content, "when")],
        seeds=_parse_seeds(content.get("seeds")),
        search=read_search(content["search"], content) if "search" in content else None,
        evaluations=evaluations,
        inspect=inspect,
    )


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key) or []
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list, not {value!r}")
    return value


def _parse_condition(block: Any) -> Condition:
    if not isinstance(block, dict) or set(block) != {"if", "axes"}:
        raise UserError("each entry of `when` needs `if` (key: value, or a list of values) and `axes`")
    return Condition(_parse_axes(block["if"]), _parse_axes(block["axes"]))


def _parse_axes(block: Any, *, seeds: bool = False) -> dict[str, Values]:
    if not isinstance(block, dict):
        raise UserError(f"axes must be key: [values], not {block!r}")
    axes = {
        str(key): tuple(override_text(each) for each in (value if isinstance(value, list) else [value]))
        for key, value in block.items()
    }
    for key, values in axes.items():
        if not values:
            raise UserError(f"the axis {key} has no value")
        if key == "seed" and not seeds:
            raise UserError("seeds are not an axis; write seeds: [0, 1, 2]")
    return axes


def _parse_point(block: Any) -> dict[str, str]:
    if not isinstance(block, dict):
        raise UserError(f"a point must be key: value, not {block!r}")
    return {str(key): override_text(value) for key, value in block.items()}


def _parse_points(block: Any) -> list[dict[str, str]]:
    """A point, or with the key ``axes`` a group of points: every combination of its axes, which may include the seed."""
    if not isinstance(block, dict) or "axes" not in block:
        return [_parse_point(block)]
    if not isinstance(block["axes"], dict):
        raise UserError(f"axes of a point must be key: [values], not {block['axes']!r}")
    shared = _parse_point({key: value for key, value in block.items() if key != "axes"})
    return [{**shared, **values} for values in _product(_parse_axes(block["axes"], seeds=True))]


def _parse_seeds(value: Any) -> Values:
    if value is None:
        return ()
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(str(seed) for seed in range(value))
    if isinstance(value, list) and value and all(isinstance(seed, int) for seed in value):
        return tuple(str(seed) for seed in value)
    raise UserError(f"seeds must be a number of seeds or a list of seeds, not {value!r}")
