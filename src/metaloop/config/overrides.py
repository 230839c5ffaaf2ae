"""Check command-line overrides before Hydra runs, and suggest valid names for a mistyped one.

Hydra composes the jobs of a sweep one after another and stops at the first wrong one, after training those before it. Here
every value of every sweep is checked first, each with the first values of the other sweeps.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from metaloop.config.composition import Composer, composer, is_searchpath
from metaloop.config.words.other_words import OPTIONS
from metaloop.config.words.override_values import Leaves, check_value, flatten
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean, listed

_KEY = re.compile(r"[+~]*[\w./@]+")
_ONE_OPTION = ("algorithm", "model", "dataset", "episode", "outer", "trainer")


@dataclass(frozen=True)
class _Checked:
    """A parsed override and its lines, one for each value of a sweep."""

    override: Override
    lines: tuple[str, ...]
    is_group: bool

    @property
    def changes(self) -> bool:
        """Whether it changes an existing key, and neither adds nor deletes one."""
        return not (self.override.is_add() or self.override.is_force_add() or self.override.is_delete())


def check_overrides(config_name: str, overrides: Sequence[str], config_dirs: Sequence[str] = (), multirun: bool = True) -> None:
    """Check that Hydra can compose ``config_name`` with these overrides, for every value of every sweep.

    Args:
        config_name: Name of the primary config, such as ``train``.
        overrides: Overrides of the command line, such as ``algorithm=maml,reptile`` or ``trainer.max_steps=100``.
        config_dirs: Folders given with ``--config-dir``; as in Hydra, they come after metaloop's own.
        multirun: Whether ``-m`` was given; without it a sweep is an error.

    Raises:
        UserError: a group, option or key does not exist, a value has another type than the default, an override cannot
            be parsed, or a sweep was given without ``-m``. The message suggests valid names.
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
            single = _as_one_value(sweeps[0], flatten(config), hydra)
            raise UserError(f"{sweeps[0].input_line}: several values make a sweep: add -m, or {single}")


def _as_one_value(sweep: Override, leaves: Leaves, hydra: Composer) -> str:
    """Say how to write one value in the place of a sweep."""
    key, value = sweep.key_or_group, sweep.get_value_string()
    if hydra.is_group(key):
        return "give one option"
    default = leaves.get(key)
    if not sweep.is_choice_sweep() or not (isinstance(default, list | str) or default is None or key.startswith("episode.")):
        return "give one value"
    return f"write '{key}=\"{value}\"'" if isinstance(default, str) and default != "???" else f"write {key}=[{value}]"


def quoted(line: str) -> str:
    """Quote a value that Hydra cannot read and that means one thing only: letters of any script, or a ``=`` inside.

    Brackets, commas and quotes have a meaning of their own and stay as they are.
    """
    key, equals, value = line.partition("=")
    strange = not value.isascii() or "=" in value.removeprefix("=")
    if not equals or not strange or value.startswith("=") or set(value) & set("'\"\\[]{}(),$") or not _KEY.fullmatch(key):
        return line
    return f"{key}='{value}'"


def parse(line: str) -> Override:
    """Parse one override with Hydra's parser.

    Raises:
        UserError: the override cannot be parsed.
    """
    key, equals, value = line.partition("=")
    if not equals and not line.startswith("~"):
        raise UserError(f"{line!r} is not an override: write key=value, such as trainer.max_steps=100 or algorithm=maml")
    try:
        return OverridesParser.create().parse_overrides([line])[0]
    except HydraException as error:
        if value.startswith("="):
            raise UserError(f"{line}: write one =, {key}={value.lstrip('=')}") from error
        if _KEY.fullmatch(key) and not set(value) & set("'\"\\[]{}"):
            quoted = f"'{key}=\"{value}\"'"
            raise UserError(f"{line}: its value has characters with a meaning of their own; write {quoted}") from error
        reason = str(error).split("\nSee http")[0]
        raise UserError(f"cannot read the override {line!r} (quote special characters): {reason}") from error


def _expand(override: Override, hydra: Composer) -> _Checked:
    """Expand an override to one line for each of its values."""
    group = override.key_or_group
    is_group = not isinstance(override.value(), dict) and hydra.is_group(group)
    if not override.is_sweep_override():
        return _Checked(override, (str(override.input_line),), is_group)
    values = list(dict.fromkeys(_values(override, hydra)))
    if not values:
        options = f"; options of {group}: {_all_of(group, hydra.options(group))}" if is_group else ""
        raise UserError(f"{override.input_line}: this sweep has no value{options}")
    return _Checked(override, tuple(f"{override.get_key_element()}={value}" for value in values), is_group)


def _values(override: Override, hydra: Composer) -> list[str]:
    """Values of a sweep in the form in which they are typed; of a range or an interval, only its ends."""
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
        return [str(numbers[position]) for position in (0, -1)] if numbers else []
    return [str(number) for number in itertools.islice(numbers, 1)]


def _check_options(item: _Checked, hydra: Composer) -> None:
    """Check that every chosen option is in its group."""
    group = item.override.key_or_group
    options = hydra.options(group)
    offered = f"options of {group}: {_all_of(group, options)}"
    for line in item.lines:
        value = parse(line).value()
        if value is None and not item.override.is_delete():
            raise UserError(f"{line}: name an option, or remove the group with ~{group}; {offered}")
        if isinstance(value, list) and len(value) > 1 and group in _ONE_OPTION:
            several = ",".join(map(str, value))
            raise UserError(f"{line}: a run has one {group}; several make a sweep: metaloop train -m {group}={several}")
        for option in value if isinstance(value, list) else [value]:
            if option is not None and str(option) not in options and "/" not in str(option):
                near = did_you_mean(str(option), options, also=OPTIONS)
                raise UserError(f"{line}: {group} has no {str(option)!r}; {near}{offered}")


def _all_of(group: str, options: Sequence[str]) -> str:
    return listed(options, f"metaloop list {group}")


def _one_at_a_time(checked: Sequence[_Checked]) -> Iterator[list[str]]:
    """Yield the group overrides with their first values, then each further value with the first values of the others."""
    groups = [item.lines for item in checked if item.is_group]
    first = [lines[0] for lines in groups]
    yield first
    for position, lines in enumerate(groups):
        for line in lines[1:]:
            yield [*first[:position], line, *first[position + 1 :]]


def _check_keys(config: DictConfig, checked: Sequence[_Checked]) -> None:
    """Check that every overridden key exists in the composed config and every value has the type of the default."""
    choices = [str(group) for group in config.hydra.runtime.choices]
    leaves = flatten(config)
    for item in checked:
        if item.is_group and item.changes:
            _check_group(item.override, choices)
        elif not item.is_group and (item.changes or item.override.is_delete()):
            for line in item.lines:
                check_value(config, leaves, choices, parse(line))


def _check_group(override: Override, choices: Sequence[str]) -> None:
    """Check that a changed group is in the defaults list, except one that is set to a list, which Hydra does not list."""
    key = override.get_key_element()
    if key in choices or isinstance(override.value(), list):
        return
    visible = [group for group in choices if not group.startswith("hydra/")]
    raise UserError(
        f"{override.input_line}: {key} is not part of this composition; {did_you_mean(key, visible)}"
        f"add it with +{override.input_line}; groups: {', '.join(visible)}"
    )
