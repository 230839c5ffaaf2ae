"""Runs that several tests look at."""

from pathlib import Path

import pytest

from metaloop.cli.main import main
from small_runs import words


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run that came to its end; look, but change nothing."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert main(words(directory)) == 0
    return directory
