"""The experiments of the configuration, read without composing them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.report.paper import check_paper, metric_of, read_paper
from metaloop.report.tables.published import Experiment

_DATASET = "override /dataset"
_DEFAULT = "glyphs"  # of conf/train.yaml


def read_experiments(config_dirs: Sequence[str] = ()) -> dict[str, Experiment]:
    """Read all experiments, by name in alphabetical order; one of ``config_dirs`` hides one of metaloop of the same name.

    Raises:
        UserError: a paper block is wrong; the message names its file.
    """
    found: dict[str, Experiment] = {}
    for folder in (*map(Path, config_dirs), conf_dir()):
        for path in sorted((folder / "experiment").glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = _read(path)
    return dict(sorted(found.items()))


def _read(path: Path) -> Experiment:
    content = _content(path)
    block = content.get("paper")
    try:
        paper = read_paper(block) if block else None
        if paper is not None:
            check_paper(paper, metric_of(paper))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Experiment(path.stem, _dataset(path) or _DEFAULT, paper)


def _content(path: Path) -> Mapping[str, Any]:
    content = yaml.safe_load(path.read_text())
    return content if isinstance(content, dict) else {}


def _dataset(path: Path) -> str | None:
    """The data set that a file chooses, itself or by a recipe among its defaults; None if neither does."""
    entries = _content(path).get("defaults") or []
    for entry in entries:
        if isinstance(entry, dict) and _DATASET in entry:
            return str(entry[_DATASET])
    recipes = [
        path.parent / f"{entry}.yaml" for entry in entries if isinstance(entry, str) and not entry.startswith(("_", "/"))
    ]
    return next((chosen for recipe in recipes if recipe.is_file() and (chosen := _dataset(recipe))), None)
