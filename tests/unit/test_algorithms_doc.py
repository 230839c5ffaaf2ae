"""docs/algorithms.md names every preset, and the choices that it says a preset makes are those that Hydra composes."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from metaloop.config.composition import DEFAULTS
from metaloop.config.folder import conf_dir

CHOICES = ("adapted", "rule", "meta_gradient", "objective", "head_init")
PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"
PRESETS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))


def rows() -> dict[str, list[str]]:
    """The table rows of the page by the preset in their first cell."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if match := re.match(r"\| `(\w+)` \|", line):
            found[match[1]] = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    return found


def test_every_preset_has_a_row_and_every_row_a_preset() -> None:
    assert sorted(rows()) == PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_row_says_what_is_composed(preset: str) -> None:
    with initialize_config_dir(str(conf_dir()), **DEFAULTS):
        composed = compose("train", [f"algorithm={preset}"], return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    made = [str(choices[f"algorithm/{choice}"]).replace("_", " ") for choice in CHOICES if f"algorithm/{choice}" in choices]
    cells = rows()[preset]
    if len(made) < len(CHOICES):  # a learner of another kind stands in a table of its own, which has no column for each choice
        assert len(cells) < 2 * len(CHOICES)
    else:
        assert cells[1:6] == made
