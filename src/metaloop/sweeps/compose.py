"""From a plan to the runs that a ledger keeps: every config composed and checked before anything runs."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from metaloop.config.composition import Composer, composer
from metaloop.config.override_values import check_value, flatten
from metaloop.config.overrides import check_overrides, parse
from metaloop.errors import UserError
from metaloop.runs.start import describe_run
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
        composed = _Composed(hydra, config_dirs)
        for run in plan.runs():
            lines = [f"{key}={value}" for key, value in run.items()]
            description = composed.described(lines, plan.name)
            key = description["fingerprint"]
            found.setdefault(key, Planned(key, tuple(lines), description, _directory(run, varied, key)))
    return list(found.values())


class _Composed:
    """Composes runs as Hydra does, but what runs with the same choices of groups have in common only once.

    A composition takes a quarter of a second; values are set afterwards, in Hydra too.
    """

    def __init__(self, hydra: Composer, config_dirs: Sequence[str]) -> None:
        self.hydra = hydra
        self.config_dirs = config_dirs
        self._bases: dict[tuple[str, ...], _Base] = {}

    def described(self, lines: Sequence[str], group: str) -> dict[str, Any]:
        """What run.json will say of the run with these overrides.

        Raises:
            UserError: they cannot be composed, or a value has another type than the default.
        """
        overrides = {line: parse(line) for line in lines}
        groups = tuple(line for line, each in overrides.items() if self.hydra.is_group(each.key_or_group))
        values = [each for line, each in overrides.items() if line not in groups]
        try:
            if groups not in self._bases:
                self._bases[groups] = _Base(self.hydra.compose(groups))
            return self._bases[groups].described(values, lines, group)
        except (UserError, CompactHydraException, OmegaConfBaseException) as error:
            check_overrides("train", lines, self.config_dirs, multirun=False)  # says what was meant
            raise UserError(f"{error}\nwith the overrides: {' '.join(lines)}") from error


class _Base:
    """A composition before values are set."""

    def __init__(self, config: DictConfig) -> None:
        self.whole = config
        self.choices = {str(name): choice for name, choice in config.hydra.runtime.choices.items()}
        self.leaves = flatten(config)
        self.own = config.copy()
        with open_dict(self.own):
            del self.own["hydra"]
        self._checked: set[str] = set()

    def described(self, values: Sequence[Override], lines: Sequence[str], group: str) -> dict[str, Any]:
        """See :meth:`_Composed.described`."""
        for override in values:
            adds = override.is_add() or override.is_force_add() or override.is_delete()
            if not adds and str(override.input_line) not in self._checked:
                check_value(self.whole, self.leaves, list(self.choices), override)
                self._checked.add(str(override.input_line))
        own = copy.deepcopy(self.own)
        ConfigLoaderImpl._apply_overrides_to_config(list(values), own)
        with _current(self.whole):
            return describe_run(own, self.choices, lines, group)


@contextmanager
def _current(config: DictConfig) -> Iterator[None]:
    """Let ``${hydra:...}`` speak of this config."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before


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
