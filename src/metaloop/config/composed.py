"""Compose runs from overrides, each with one composition, and suggest valid names for a wrong override."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from metaloop.config.composition import Composer, composer, is_searchpath, own_folders
from metaloop.config.identity import run_identity
from metaloop.config.overrides import check_overrides, parse
from metaloop.config.words.override_values import check_value, flatten
from metaloop.errors import UserError
from metaloop.records.code import configuration_of
from metaloop.records.schema import Code, RunIdentity


def compose(*overrides: str, config_dirs: Sequence[str] = ()) -> RunIdentity:
    """Compose a run from Python, the same that ``metaloop train`` runs with these overrides.

    Args:
        overrides: Overrides such as ``"algorithm=anil"`` or ``"trainer.max_steps=100"``.
        config_dirs: Further folders of configuration groups.

    Raises:
        UserError: an override is unknown or mistyped; the message suggests valid names.
    """
    with composer("train", config_dirs, [parse(line) for line in overrides]) as hydra:
        return RunComposer(hydra, config_dirs).compose(overrides).identity(None)


@dataclass(frozen=True)
class ComposedRun:
    """The config of one run.

    Attributes:
        whole: Config with Hydra's own node.
        overrides: Overrides that it was composed from.
        configuration: The user's own folders of configuration groups.
    """

    whole: DictConfig
    overrides: tuple[str, ...]
    configuration: tuple[Code, ...]

    def pin_directory(self) -> Path:
        """Resolve Hydra's directory of the run, with the time of now, and keep it in the config."""
        with _current(self.whole):
            directory = str(self.whole.hydra.run.dir)
        with read_write(self.whole.hydra):
            self.whole.hydra.run.dir = directory
        return Path(directory)

    def identity(self, group: str | None) -> RunIdentity:
        """Identity of the run, for ``run.json``.

        Args:
            group: Name of the sweep that the run belongs to; None for a single run.

        Raises:
            UserError: the config is incomplete.
        """
        config = copy.deepcopy(self.whole)
        with open_dict(config):
            del config["hydra"]
        with _current(self.whole):
            choices = self.whole.hydra.runtime.choices
            return run_identity(config, choices, self.overrides, group, self.configuration)


class RunComposer:
    """Composer of runs with the same results as Hydra.

    Runs with the same choices of groups share one composition, which takes a quarter of a second. Values are set afterwards,
    as in Hydra.

    Args:
        hydra: Composer of the choices of groups.
        config_dirs: Further folders of configuration groups.
    """

    def __init__(self, hydra: Composer, config_dirs: Sequence[str]) -> None:
        self.hydra = hydra
        self.config_dirs = config_dirs
        self._bases: dict[tuple[str, ...], _Base] = {}

    def compose(self, lines: Sequence[str]) -> ComposedRun:
        """Compose the run with these overrides.

        Raises:
            UserError: they cannot be composed, or a value has another type than the default.
        """
        overrides = [parse(line) for line in lines]
        groups = [each for each in overrides if self._is_group(each)]
        values = [each for each in overrides if each not in groups and not is_searchpath(each)]
        key = tuple(str(each.input_line) for each in groups)
        try:
            if key not in self._bases:
                self._bases[key] = _Base(self.hydra.compose(key))
            base = self._bases[key]
            return ComposedRun(base.with_values(values, overrides), tuple(lines), base.configuration)
        except (UserError, CompactHydraException, OmegaConfBaseException) as error:
            check_overrides("train", lines, self.config_dirs, multirun=False)  # raises an error with suggestions
            raise UserError(f"{error}\nwith the overrides: {' '.join(lines)}") from error

    def _is_group(self, override: Override) -> bool:
        return not isinstance(override.value(), dict) and self.hydra.is_group(override.key_or_group)


class _Base:
    """A composition before values are set."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.configuration = configuration_of(own_folders(config.hydra.runtime))
        self.leaves = flatten(config)
        self.choices = [str(name) for name in config.hydra.runtime.choices]
        self._checked: set[str] = set()

    def with_values(self, values: Sequence[Override], overrides: Sequence[Override]) -> DictConfig:
        """Copy the config and set ``values``; ``overrides`` are all overrides of the run, groups included."""
        for override in values:
            adds = override.is_add() or override.is_force_add()
            if not adds and str(override.input_line) not in self._checked:
                check_value(self.config, self.leaves, self.choices, override)
                self._checked.add(str(override.input_line))
        config = copy.deepcopy(self.config)
        ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
        hydra: Any = config.hydra
        task_overrides = [override for override in overrides if not override.is_hydra_override()]
        hydra.overrides.task = [str(override.input_line) for override in task_overrides]
        if not OmegaConf.is_interpolation(hydra.job, "override_dirname"):  # from Hydra 1.4 on, it follows by itself
            hydra.job.override_dirname = _override_dirname(task_overrides, hydra.job.config.override_dirname)
        return config


def _override_dirname(overrides: Sequence[Override], style: Any) -> str:
    """The part of a directory's name that Hydra makes of overrides (``hydra.job.override_dirname``)."""
    lines = sorted(str(each.input_line) for each in overrides if each.key_or_group not in style.exclude_keys)
    return str(style.item_sep.join(lines)).replace("=", style.kv_sep)


@contextmanager
def _current(config: DictConfig) -> Iterator[None]:
    """Resolve ``${hydra:...}`` in this config."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before
