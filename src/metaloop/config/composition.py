"""Compose configs with Hydra without starting a run: the same groups, search path and result as in a run."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaloop.config.folder import conf_dir
from metaloop.config.words.other_words import OPTIONS
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean, listed

# Hydra 1.3 must be told which version's defaults to use. Hydra 1.4 has one set of defaults and warns of the argument.
DEFAULTS: dict[str, str] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


class Composer:
    """Composer of one primary config; `composer` makes it.

    Args:
        config_name: Name of the primary config, such as ``train``.
        searchpath: Override of ``hydra.searchpath`` as a list of one line, or an empty list.
    """

    def __init__(self, config_name: str, searchpath: list[str]) -> None:
        self._config_name = config_name
        self.searchpath = searchpath
        self._listed: dict[tuple[str, ObjectType], list[str]] = {}  # Hydra reads the folders anew at each question

    @property
    def loader(self) -> ConfigLoader:
        """Hydra's own loader of configurations, which starting a job needs."""
        return GlobalHydra.instance().config_loader()

    def is_group(self, group: str) -> bool:
        """Whether there is a group of this name."""
        parent, _, name = group.rpartition("/")
        return name in self._list(parent, ObjectType.GROUP)

    def options(self, group: str) -> list[str]:
        """Options of a group."""
        return self._list(group, ObjectType.CONFIG)

    def _list(self, group: str, kind: ObjectType) -> list[str]:
        if (group, kind) not in self._listed:
            options = self.loader.get_group_options(group, kind, config_name=None, overrides=self.searchpath)
            self._listed[group, kind] = options
        return self._listed[group, kind]

    def compose(self, lines: Sequence[str]) -> DictConfig:
        """Compose the config with the overrides ``lines``, with Hydra's own node.

        Raises:
            UserError: Hydra refuses the overrides.
        """
        try:
            return compose(self._config_name, [*self.searchpath, *lines], return_hydra_config=True)
        except MissingConfigException as error:
            raise UserError(_missing(error)) from error
        except (CompactHydraException, OmegaConfBaseException, ValueError) as error:
            absent = re.search(r"Could not override '([^']+)'", str(error))
            if absent is not None:
                raise UserError(_absent(absent[1], lines)) from error
            for line in lines:
                if line.startswith("+") and f"Multiple values for {line[1:].partition('=')[0]}" in str(error):
                    raise UserError(f"{line}: it has an option already; change it with {line.lstrip('+')}") from error
            cause = f": {error.__cause__}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
            raise UserError(f"{str(error).strip()}{cause}\nwith the overrides: {' '.join(lines)}") from error


def _absent(group: str, lines: Sequence[str]) -> str:
    parent = group.rpartition("/")[0]
    if not parent:
        line = next((line for line in lines if line.partition("=")[0] == group), f"{group}=...")
        return f"{group} is not part of this composition; add it with +{line}"
    chosen = next((line for line in reversed(lines) if line.partition("=")[0] == parent), f"this {parent}")
    return f"{group}: {chosen} has no such group; leave it out, or choose another {parent}"


def _missing(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    reason = str(error).split("\n", 1)[0]
    options = [str(option) for option in error.options or ()]
    if not options:
        return reason
    near = did_you_mean(name, options, prefix=f"{group}=", also=OPTIONS)
    return f"{reason}; {near}options of {group}: {listed(options, f'metaloop list {group}')}"


@contextmanager
def composer(
    config_name: str, config_dirs: Sequence[str], overrides: Sequence[Override], job_name: str = "check"
) -> Iterator[Composer]:
    """Make a `Composer` over metaloop's configuration folder, ``config_dirs`` and the search path of the overrides.

    Hydra's global state is restored afterwards, also if Hydra is running.

    Raises:
        UserError: one of ``config_dirs`` does not exist.
    """
    for folder in config_dirs:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), job_name=job_name, **DEFAULTS):
            yield Composer(config_name, _searchpath(config_name, config_dirs, overrides))
    finally:
        GlobalHydra.instance().hydra = running


def own_folders(runtime: Any) -> tuple[str, ...]:
    """The user's own folders of configuration groups, from Hydra's node ``hydra.runtime`` of a composition."""
    folders = [source.path for source in runtime.config_sources if source.schema == "file"]
    return tuple(dict.fromkeys(folder for folder in folders if Path(folder) != conf_dir()))


def is_searchpath(override: Override) -> bool:
    """Whether an override sets ``hydra.searchpath``, which Hydra reads before it composes."""
    return override.key_or_group == "hydra.searchpath"


def _searchpath(config_name: str, config_dirs: Sequence[str], overrides: Sequence[Override]) -> list[str]:
    """One override with all folders: those of ``--config-dir``, then those of the command line or the primary config."""
    folders = [f"file://{Path(folder).resolve()}" for folder in config_dirs]
    primary = conf_dir() / f"{config_name}.yaml"
    searchpath = OmegaConf.select(OmegaConf.load(primary), "hydra.searchpath") if primary.exists() else None
    for override in overrides:
        if is_searchpath(override):
            searchpath = override.value()
    folders += [str(folder) for folder in searchpath or ()]
    return [f"hydra.searchpath=[{','.join(repr(folder) for folder in folders)}]"] if folders else []
