"""Paths of data in a run's config: relative ones belong to the folder where the run was started, wherever it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaloop.records.schema import RunIdentity

_PATHS = {"dataset": ("path", "data_dir", "split_file", "images"), "model": ("name_or_path",)}


def with_absolute_paths(identity: RunIdentity) -> Mapping[str, Any]:
    """Return the config with the absolute paths of its data and encoder.

    A path that does not exist below the folder where the run was started stays relative: the run may have come from another
    machine together with its data, and data.json tells if they are not the same.
    """
    config = identity.config
    if identity.folder is None:
        return config
    return {**config, **{group: _absolute(config.get(group), group, identity.folder) for group in _PATHS if group in config}}


def _absolute(node: Any, group: str, folder: str) -> Any:
    if not isinstance(node, Mapping):
        return node
    paths = {key: node[key] for key in _PATHS[group] if isinstance(node.get(key), str)}
    return {**node, **{key: _located(value, folder) for key, value in paths.items()}}


def _located(value: str, folder: str) -> str:
    path = Path(value).expanduser()
    placed = Path(folder, path)
    return value if path.is_absolute() or not placed.exists() else str(placed)
