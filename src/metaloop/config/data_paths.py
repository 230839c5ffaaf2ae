"""Paths of data in a run's config: relative ones belong to the folder where the run was started, wherever it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PATHS = {"dataset": ("path", "data_dir", "split_file", "images", "tables"), "model": ("name_or_path",)}


def with_absolute_paths(config: Mapping[str, Any], folder: str | None) -> Mapping[str, Any]:
    """Return the config with the absolute paths of its data and encoder.

    A path that does not exist below the folder stays relative: the run may have come from another machine together with its
    data, and data.json tells if they are not the same.

    Args:
        config: Config of a run or an evaluation.
        folder: Working folder to which its relative paths belong; None if unknown.
    """
    if folder is None:
        return config
    return {**config, **{group: _absolute(config.get(group), group, folder) for group in _PATHS if group in config}}


def _absolute(node: Any, group: str, folder: str) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {**node, **{key: _placed(node[key], folder) for key in _PATHS[group] if key in node}}


def _placed(value: Any, folder: str) -> Any:
    """The value with absolute paths; of lists and mappings, such as the tables of each split, those with a suffix are paths."""
    if isinstance(value, Mapping):
        return {key: _placed(each, folder) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_located(each, folder) if isinstance(each, str) and Path(each).suffix else each for each in value]
    return _located(value, folder) if isinstance(value, str) else value


def _located(value: str, folder: str) -> str:
    path = Path(value).expanduser()
    placed = Path(folder, path)
    return value if path.is_absolute() or not placed.exists() else str(placed)
