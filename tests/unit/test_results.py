"""docs/results.md is what its records say, and names every experiment with a published number."""

import json
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.config.experiments import read_experiments

ROOT = Path(__file__).parents[2]


def test_results_page_is_generated_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made again from docs/records, the page is the same to the letter."""
    monkeypatch.chdir(ROOT)
    assert main(["reproduce", "--check", "--records", "docs/records"]) == 0
    records = [json.loads(path.read_text()) for path in Path("docs/records").rglob("record.json")]
    measured = {record["choices"].get("experiment") for record in records} & set(read_experiments())
    page = Path("docs/results.md").read_text()
    assert {line.removeprefix("### ").replace("\\", "") for line in page.splitlines() if line.startswith("### ")} == measured


def test_numbers_from_memory_keep_their_mark() -> None:
    """Every published number of the page has a mark, and those from memory have theirs."""
    rows = [line for line in (ROOT / "docs" / "results.md").read_text().splitlines() if line.startswith("| ") and "±" in line]
    assert rows
    from_memory = [name for name, each in read_experiments().items() if each.paper and each.paper.mark == "M"]
    for name in from_memory:
        written = name.replace("_", r"\_")
        lines = [line for line in rows if line.startswith((f"| {written} |", f"| {written} / "))]
        assert all(r"\[M\]" in line or "| – |" in line for line in lines), name


def test_pages_of_studies_are_generated_from_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["study", "--check"]) == 0
    assert {path.name for path in Path("docs/records/studies").iterdir()} == {
        path.stem.removeprefix("study_") for path in Path("docs").glob("study_*.md")
    }
