"""Every file, module and name that the docs mention exists."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaloop.config.targets.allowed import GROUP

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGE = ROOT / "src" / "metaloop"
EXAMPLE = ROOT / "tests" / "e2e" / "mylab"  # the worked example of docs/adding.md
FILE = re.compile(r"(?<![\w/.<*-])[\w./-]+\.(?:py|cpp|md|ipynb)\b")
IN_REPOSITORY = re.compile(r"(?<![\w/.-])(?:src|conf|tests|docs|benchmarks|notebooks)/[\w./*-]*[\w*]")
FOLDER = re.compile(r"`(\w+/[\w/]*\w)/`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)")
NAME = re.compile(r"(?<![\w/.-])metaloop(?:\.[a-zA-Z_]\w*)+")
IMPORT = re.compile(r"^from (metaloop[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def missing_files(text: str, page: Path) -> Iterator[str]:
    """Yield the mentioned paths that are below no root; a bare file name may lie anywhere in the package."""
    for word in {*FILE.findall(text), *IN_REPOSITORY.findall(text)}:
        roots = (ROOT, page.parent, PACKAGE, EXAMPLE)
        anywhere = "/" not in word and any(PACKAGE.rglob(word))
        if not anywhere and not any(any(root.glob(word)) for root in roots):
            yield word
    for word in FOLDER.findall(text):
        if (PACKAGE / word.split("/")[0]).is_dir() and not (PACKAGE / word).is_dir():
            yield word
    for target in LINK.findall(text):
        if not target.startswith("http") and not (page.parent / target).exists():
            yield target


def missing_names(text: str) -> Iterator[str]:
    """Yield the dotted names of the package that neither import nor are an attribute."""
    names = {*NAME.findall(text)}
    names |= {f"{module}.{name.strip()}" for module, many in IMPORT.findall(text) for name in many.split(",")}
    for name in sorted(names):
        if name != GROUP and not _exists(name):  # a group of entry points is no module
            yield name


def _exists(name: str) -> bool:
    here = importlib.import_module("metaloop")
    path = "metaloop"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            here = importlib.import_module(path)
        except ModuleNotFoundError:
            if not hasattr(here, part):
                return False
            here = getattr(here, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_D4_what_a_page_mentions_exists(page: Path) -> None:
    text = page.read_text()
    assert sorted(missing_files(text, page)) == []
    assert list(missing_names(text)) == []


def test_the_architecture_page_shows_the_layers_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    block = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    assert ["__main__", *(re.split(r"\s{2,}", line)[0] for line in block.strip().splitlines())] == contract["layers"]


def test_what_does_not_exist_is_noticed() -> None:
    page = ROOT / "docs" / "page.md"
    text = "`src/metaloop/nowhere/`, `data/nowhere.py`, [page](gone.md), metaloop.nowhere.Thing, metaloop.types.Nothing"
    assert sorted(missing_files(text, page)) == ["data/nowhere.py", "gone.md", "gone.md", "src/metaloop/nowhere"]
    assert list(missing_names(text)) == ["metaloop.nowhere.Thing", "metaloop.types.Nothing"]
    assert list(missing_names("from metaloop.types import Tasks, Nothing")) == ["metaloop.types.Nothing"]
