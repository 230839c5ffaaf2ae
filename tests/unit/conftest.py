"""Runs that several tests look at, real and made up."""

from pathlib import Path
from typing import Any

import pytest
from made_runs import MakeRun, paper_block, run_factory

from metaloop.cli.main import main
from small_runs import words


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run that came to its end; look, but change nothing."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert main(words(directory)) == 0
    return directory


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run directory and return it."""
    return run_factory(tmp_path)


@pytest.fixture
def paper() -> dict[str, Any]:
    """A whole paper block."""
    return paper_block()
