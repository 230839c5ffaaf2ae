"""From a plan to the runs that a ledger keeps: every config composed and checked before anything runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from hydra.core.override_parser.types import Glob, IntervalSweep, Override

from metaloop.config.composed import RunComposer
from metaloop.config.composition import Composer, composer
from metaloop.config.overrides import parse
from metaloop.errors import UserError
from metaloop.sweeps.ledger import Planned
from metaloop.sweeps.plan import Plan

_LONGEST = 80  # characters of a directory's name that say what the run is
_HASH = 8  # and of its hash


def with_overrides(plan: Plan, lines: Sequence[str], config_dirs: Sequence[str]) -> Plan:
    """The plan with what the command line says: one value holds a key, several make it an axis.

    Raises:
        UserError: an override cannot be read, or is no choice between values.
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
        raise UserError(f"{override.input_line}: a sweep needs values, such as choice(1,2,3); an interval has none of its own")
    if isinstance(value, Glob):
        found = value.filter(hydra.options(override.key_or_group))
    else:
        found = list(override.sweep_string_iterator())
    if not found:
        raise UserError(f"{override.input_line}: this sweep has no value")
    return list(dict.fromkeys(found))


def compose_runs(plan: Plan, config_dirs: Sequence[str], named: Sequence[str] | None = None) -> list[Planned]:
    """Every run of the plan, composed and checked; the same config under two names is one run.

    Args:
        plan: of the sweep.
        config_dirs: further folders of configuration groups.
        named: the keys that directories are named by; None for those in which runs differ.

    Raises:
        UserError: a run cannot be composed.
    """
    found: dict[str, Planned] = {}
    varied = plan.varied() if named is None else named
    with composer("train", config_dirs, []) as hydra:
        runs = RunComposer(hydra, config_dirs)
        for run in plan.runs():
            lines = [f"{key}={value}" for key, value in run.items()]
            identity = runs.compose(lines).identity(plan.name)
            key = identity.fingerprint
            found.setdefault(key, Planned(key, tuple(lines), asdict(identity), _directory(run, varied, key)))
    return list(found.values())


def _directory(run: Mapping[str, str], varied: Sequence[str], key: str) -> str:
    """A name that people can read and that nothing else of the sweep has."""
    said = ",".join(f"{name.rpartition('.')[2].rpartition('/')[2]}={run[name]}" for name in varied if name in run)
    said = re.sub(r"[^\w.,=+-]+", "_", said)[:_LONGEST].strip("_.,")
    return f"{said}-{key[:_HASH]}" if said else key[:_HASH]


def launcher_overrides(plan: Plan) -> tuple[Plan, list[str]]:
    """The plan without what it says of a Hydra launcher, and that."""
    theirs = [key for key in plan.overrides if key.lstrip("+").startswith(("hydra/launcher", "hydra.launcher."))]
    rest = {key: value for key, value in plan.overrides.items() if key not in theirs}
    return replace(plan, overrides=rest), [f"{key}={plan.overrides[key]}" for key in theirs]
