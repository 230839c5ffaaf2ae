"""Check command-line overrides before Hydra runs, so that a typing error is answered with the nearest valid name.

Hydra composes a sweep's jobs one after the other and stops at the first wrong one, when those before it have trained.
Here every value of every sweep is checked first: each alone, with the first value of every other sweep.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from metaloop.config.composition import Composer, composer, is_searchpath
from metaloop.config.override_values import check_value, flatten
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean


@dataclass(frozen=True)
class _Checked:
    """A parsed override with the lines that it stands for, one for each value of a sweep."""

    override: Override
    lines: tuple[str, ...]
    is_group: bool

    @property
    def changes(self) -> bool:
        """Whether it changes what is there, neither adding nor deleting."""
        return not (self.override.is_add() or self.override.is_force_add() or self.override.is_delete())


def check_overrides(config_name: str, overrides: Sequence[str], config_dirs: Sequence[str] = (), multirun: bool = True) -> None:
    """Raise unless Hydra can compose ``config_name`` with these overrides, for every value of every sweep.

    Args:
        config_name: the primary config, such as ``train``.
        overrides: as on the command line, such as ``algorithm=maml,reptile`` or ``trainer.max_steps=100``.
        config_dirs: folders given with ``--config-dir``; as in Hydra they come after our own.
        multirun: whether ``-m`` was given, without which a sweep is a mistake.

    Raises:
        UserError: a group, option or key does not exist, a value has another type than the default, an override cannot
            be parsed, or a sweep was given without ``-m``. The message names the nearest valid names.
    """
    parsed = [parse(line) for line in overrides]
    with composer(config_name, config_dirs, parsed) as hydra:
        checked = [_expand(override, hydra) for override in parsed if not is_searchpath(override)]
        for item in checked:
            if item.is_group:
                _check_options(item, hydra)
        for lines in _one_at_a_time(checked):
            _check_keys(hydra.compose(lines), checked)
        config = hydra.compose([item.lines[0] for item in checked])
        sweeps = [override for override in parsed if override.is_sweep_override()]
        if sweeps and not multirun and config.hydra.mode != RunMode.MULTIRUN:
            key, value = sweeps[0].key_or_group, sweeps[0].get_value_string()
            raise UserError(f"{sweeps[0].input_line}: several values make a sweep: add -m, or write {key}=[{value}]")


def parse(line: str) -> Override:
    """One override as Hydra reads it.

    Raises:
        UserError: it cannot be read.
    """
    if "=" not in line and not line.startswith("~"):
        raise UserError(f"{line!r} is no override: write key=value, such as trainer.max_steps=100 or algorithm=maml")
    try:
        return OverridesParser.create().parse_overrides([line])[0]
    except HydraException as error:
        reason = str(error).split("\nSee http")[0]
        raise UserError(f"cannot read the override {line!r} (quote special characters): {reason}") from error


def _expand(override: Override, hydra: Composer) -> _Checked:
    """One override as its single values."""
    group = override.key_or_group
    is_group = not isinstance(override.value(), dict) and hydra.is_group(group)
    if not override.is_sweep_override():
        return _Checked(override, (str(override.input_line),), is_group)
    values = list(dict.fromkeys(_values(override, hydra)))
    if not values:
        options = f"; options of {group}: {', '.join(hydra.options(group))}" if is_group else ""
        raise UserError(f"{override.input_line}: this sweep has no value{options}")
    return _Checked(override, tuple(f"{override.get_key_element()}={value}" for value in values), is_group)


def _values(override: Override, hydra: Composer) -> list[str]:
    """The values of a sweep as they would be typed; numbers from a range or an interval stand for all between them."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{end:g}" for end in (value.start, value.end) if end is not None]
    if isinstance(value, Glob):
        return value.filter(hydra.options(override.key_or_group))
    if not isinstance(value, RangeSweep):
        return list(override.sweep_string_iterator())
    try:
        numbers = value.range()
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error
    if isinstance(numbers, range):
        return [str(numbers[place]) for place in (0, -1)] if numbers else []
    return [str(number) for number in itertools.islice(numbers, 1)]


def _check_options(item: _Checked, hydra: Composer) -> None:
    """Every option that is chosen must be in its group."""
    group = item.override.key_or_group
    options = hydra.options(group)
    listed = f"options of {group}: {', '.join(options) or 'none'}"
    for line in item.lines:
        value = parse(line).value()
        if value is None and not item.override.is_delete():
            raise UserError(f"{line}: name an option, or take the group out with ~{group}; {listed}")
        for option in value if isinstance(value, list) else [value]:
            if option is not None and str(option) not in options and "/" not in str(option):
                raise UserError(f"{line}: {group} has no {str(option)!r}; {did_you_mean(str(option), options)}{listed}")


def _one_at_a_time(checked: Sequence[_Checked]) -> Iterator[list[str]]:
    """The group overrides with their first values, then each other value of each with the first values of the rest."""
    groups = [item.lines for item in checked if item.is_group]
    first = [lines[0] for lines in groups]
    yield first
    for place, lines in enumerate(groups):
        for line in lines[1:]:
            yield [*first[:place], line, *first[place + 1 :]]


def _check_keys(config: DictConfig, checked: Sequence[_Checked]) -> None:
    """Every overridden key must exist in the composed config, and every value must fit the type of the default."""
    choices = [str(group) for group in config.hydra.runtime.choices]
    leaves = flatten(config)
    for item in checked:
        if item.is_group and item.changes:
            _check_group(item.override, choices)
        elif not item.is_group and (item.changes or item.override.is_delete()):
            for line in item.lines:
                check_value(config, leaves, choices, parse(line))


def _check_group(override: Override, choices: Sequence[str]) -> None:
    """A group that is changed must be in the defaults list; Hydra does not name a group set to a list there."""
    key = override.get_key_element()
    if key in choices or isinstance(override.value(), list):
        return
    visible = [group for group in choices if not group.startswith("hydra/")]
    raise UserError(
        f"{override.input_line}: {key} is no part of this composition; {did_you_mean(key, visible)}"
        f"add it with +{override.input_line}; groups: {', '.join(visible)}"
    )
