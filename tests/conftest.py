"""Fixtures of all tests."""

import base64
import gc
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

BLANK = base64.b64decode(  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep prepared data sets and the user's state in pytest's cache, for all workers and processes."""
    os.environ.setdefault("METALOOP_CACHE", str(config.rootpath / ".pytest_cache" / "metaloop"))
    os.environ["XDG_STATE_HOME"] = str(config.rootpath / ".pytest_cache" / "state")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: it would look through all of it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the CPU time of all processes; CONTRIBUTING.md has the budget."""
    user, system, children_user, children_system, _ = os.times()
    seconds = user + system + children_user + children_system
    terminalreporter.write_line(f"CPU time of all processes: {seconds / 60:.1f} minutes")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets; tests that need it are skipped if it is absent."""
    folder = Path(os.environ.get("METALOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets; {folder} does not exist (set METALOOP_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Give the root logger its handlers back, since a command that ran in this process leaves some for streams that end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level


@pytest.fixture(autouse=True)
def _blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures of reports blank but in the tests of figures, because drawing takes longer than a small run."""
    pictures = sys.modules.get("metaloop.report.figures.pictures")
    if pictures is not None and "figures" not in request.node.path.parts and not request.node.get_closest_marker("pictures"):
        monkeypatch.setattr(pictures, "png", lambda figure: BLANK)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Seed the global generators before every test."""
    torch.manual_seed(0)
