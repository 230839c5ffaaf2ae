"""Composition of all runs of a plan: every config is composed and checked before any run starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from hydra.core.override_parser.types import Glob, IntervalSweep, Override

from metaloop.config.composed import RunComposer
from metaloop.config.composition import Composer, composer
from metaloop.config.overrides import parse
from metaloop.errors import UserError
from metaloop.report.tables.facts import short_names
from metaloop.sweeps.launch.packs import AUTO, check_mode
from metaloop.sweeps.ledger import Planned
from metaloop.sweeps.plan import Plan

LAUNCHER = "launcher"  # key of a sweep that says where its runs run
PACK = "sweep.pack"  # key of a sweep that says whether runs are computed together
LOCAL, RAY = "local", "ray"
LAUNCHERS = (LOCAL, RAY)
_MAX_NAME = 80  # characters of a directory's name for the run's settings
_QUOTE = "'"
_HASH = 8  # characters of a directory's name for the run's hash


def with_overrides(plan: Plan, lines: Sequence[str], config_dirs: Sequence[str]) -> Plan:
    """Apply the overrides of the command line: one value fixes a key, several values make it an axis.

    Raises:
        UserError: an override cannot be parsed, or its sweep has no values.
    """
    with composer("train", config_dirs, []) as hydra:
        for line in lines:
            override = parse(line)
            key = override.get_key_element()
            if override.is_sweep_override():
                plan = plan.with_axis(key, tuple(_values(override, hydra)))
            else:
                plan = plan.with_fixed(key, line.partition("=")[2])
    return plan


def _values(override: Override, hydra: Composer) -> list[str]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        raise UserError(f"{override.input_line}: an interval has no fixed values; a sweep needs values, such as choice(1,2,3)")
    if isinstance(value, Glob):
        values = value.filter(hydra.options(override.key_or_group))
    else:
        values = list(override.sweep_string_iterator())
    if not values:
        raise UserError(f"{override.input_line}: this sweep has no value")
    return list(dict.fromkeys(values))


def compose_runs(plan: Plan, config_dirs: Sequence[str], name_keys: Sequence[str] | None = None) -> list[Planned]:
    """Compose and check every run of the plan. Runs with equal configs become one run.

    Args:
        plan: plan of the sweep.
        config_dirs: further folders of config groups.
        name_keys: the keys that form the names of directories; None for the keys that differ between runs.

    Raises:
        UserError: a run cannot be composed.
    """
    unique: dict[str, Planned] = {}
    name_keys = plan.varied() if name_keys is None else name_keys
    with composer("train", config_dirs, []) as hydra:
        runs = RunComposer(hydra, config_dirs)
        for run in plan.runs():
            lines = [f"{key}={value}" for key, value in run.items()]
            identity = runs.compose(lines).identity(plan.name)
            key = identity.fingerprint
            unique.setdefault(key, Planned(key, tuple(lines), asdict(identity), _directory(run, name_keys, key)))
    return list(unique.values())


def _directory(run: Mapping[str, str], name_keys: Sequence[str], key: str) -> str:
    """A readable directory name, unique within the sweep."""
    names = short_names([name for name in name_keys if name in run])
    settings = ",".join(f"{short.replace('/', '.')}={run[name].strip(_QUOTE)}" for name, short in names.items())
    settings = re.sub(r"[^\w.,=+-]+", "_", settings)[:_MAX_NAME].strip("_.,")
    return f"{settings}-{key[:_HASH]}" if settings else key[:_HASH]


def split_launcher(plan: Plan) -> tuple[Plan, list[str]]:
    """Separate a plan from its overrides of the launcher: ``launcher``, or those of Hydra's launcher.

    Raises:
        UserError: there is no such launcher, or there are two.
    """
    launcher = [key for key in plan.overrides if key.lstrip("+").startswith(("hydra/launcher", "hydra.launcher."))]
    own = plan.overrides.get(LAUNCHER)
    if own is not None and own not in LAUNCHERS:
        raise UserError(
            f"{LAUNCHER}={own}: must be one of {', '.join(LAUNCHERS)}; hydra/launcher=NAME takes one that is made for Hydra"
        )
    if own is not None and launcher:
        raise UserError(f"{LAUNCHER}={own} and {launcher[0]} are two launchers: leave one out")
    launcher += [LAUNCHER] if own is not None else []
    overrides = {key: value for key, value in plan.overrides.items() if key not in launcher}
    return replace(plan, overrides=overrides), [f"{key}={plan.overrides[key]}" for key in launcher]


def split_pack(plan: Plan) -> tuple[Plan, str]:
    """Separate a plan from its key ``sweep.pack``.

    Returns:
        The plan, and the value: auto, true or false.

    Raises:
        UserError: the value is none of them.
    """
    overrides = dict(plan.overrides)
    mode = check_mode(overrides.pop(PACK, AUTO))
    if PACK in plan.axes:
        raise UserError(f"{PACK} is one value for all runs of a sweep: auto, true or false")
    return replace(plan, overrides=overrides), mode
