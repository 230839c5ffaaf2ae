"""Fixtures of made-up runs."""

from pathlib import Path
from typing import Any

import pytest
from made_runs import MakeRun, paper_block, run_factory


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run directory and return it."""
    return run_factory(tmp_path)


@pytest.fixture
def paper() -> dict[str, Any]:
    """A whole paper block."""
    return paper_block()
