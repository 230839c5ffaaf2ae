"""Identity of a run from its composed config: resolved plain data and a hash. Does not import torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaloop.config.targets.allowed import check_targets
from metaloop.config.values import check_present, check_values
from metaloop.config.words.known_keys import check_known
from metaloop.errors import UserError
from metaloop.records.schema import Code, RunIdentity

_OPTIONAL = ("callbacks", "start_from")  # keys that runs of before do not have
_REMARKS = ("notes", "paper")  # keys that change nothing of what is run
_NOT_THE_RUN = ("resume",)  # keys that tell how to start and not what to run


def plain(config: DictConfig) -> dict[str, Any]:
    """Convert a config to a plain dict with all interpolations resolved.

    Raises:
        UserError: a mandatory value (???) is missing, or an interpolation does not resolve.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{', '.join(missing)}: a value is needed; set it with {missing[0]}=...")
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the config is incomplete: {str(error).splitlines()[0]}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key not in _NOT_THE_RUN}


def fingerprint(config: Mapping[str, Any]) -> str:
    """Hash a run's config; the order of keys does not matter, nor do remarks and optional parts that a run does without."""
    counted = {key: value for key, value in config.items() if key not in _REMARKS and (value or key not in _OPTIONAL)}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def run_identity(
    config: DictConfig,
    choices: Mapping[str, Any],
    overrides: Sequence[str],
    group: str | None,
    configuration: Sequence[Code] = (),
) -> RunIdentity:
    """Make the identity of a run that starts now.

    Args:
        config: Composed config without Hydra's own node.
        choices: Chosen option of each config group, from Hydra.
        overrides: Overrides of the command line.
        group: Name of the sweep; None for a single run.
        configuration: The user's own folders of configuration groups, described.

    Raises:
        UserError: the config is incomplete, has a key that nobody reads or a value that cannot be, or calls what it may not.
    """
    check_known(config)
    unresolved = OmegaConf.to_container(config, resolve=False)
    assert isinstance(unresolved, dict)
    check_present({str(key): value for key, value in unresolved.items()})
    resolved = plain(config)
    check_values(resolved)
    check_targets(resolved)
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
        folder=str(Path.cwd()),
        configuration=tuple(configuration),
    )
