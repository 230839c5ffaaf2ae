"""docs/results.md is what its records say, and names every experiment with a published number."""

import json
from pathlib import Path

import pytest

from metaloop.cli.main import main

ROOT = Path(__file__).parents[2]


def test_results_page_is_generated_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made again from docs/records, the page is the same to the letter."""
    monkeypatch.chdir(ROOT)
    assert main(["reproduce", "--check", "--records", "docs/records"]) == 0
    published = [path for path in Path("docs/records").rglob("record.json") if json.loads(path.read_text())["paper"]]
    assert Path("docs/results.md").read_text().count("\n### ") == len(published) == 3
