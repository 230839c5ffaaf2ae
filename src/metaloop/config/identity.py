"""What a run is, from its composed config: plain data, resolved, with a hash that tells runs apart. Needs no torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaloop.errors import UserError
from metaloop.records.schema import RunIdentity

_NOT_THE_RUN = ("resume",)  # says how to start, not what to run


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as a plain dict, everything resolved.

    Raises:
        UserError: a mandatory value (???) is missing or an interpolation does not resolve.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{', '.join(missing)}: a value is needed; give one with {missing[0]}=...")
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the config is incomplete: {str(error).splitlines()[0]}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key not in _NOT_THE_RUN}


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash of a run's config; the order of keys does not change it."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def run_identity(config: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str], group: str | None) -> RunIdentity:
    """The identity of a run that starts now.

    Args:
        config: composed, without Hydra's own node.
        choices: choice by config group, as Hydra has them.
        overrides: of the command line.
        group: of runs that belong together (a sweep), or None.

    Raises:
        UserError: the config is incomplete.
    """
    resolved = plain(config)
    return RunIdentity(
        name=resolved["name"],
        seed=resolved["seed"],
        choices={name: str(choice) for name, choice in choices.items() if not name.startswith("hydra/") and choice},
        config=resolved,
        overrides=tuple(overrides),
        command=("metaloop", "train", *overrides),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=fingerprint(resolved),
        group=group,
    )
