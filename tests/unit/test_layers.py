"""The import rules of docs/architecture.md."""

import subprocess
import sys
from pathlib import Path


def test_imports_keep_to_the_layers() -> None:
    """import-linter's contracts, as pyproject.toml states them."""
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout
