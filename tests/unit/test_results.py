"""docs/results.md is what its records say."""

import json
from pathlib import Path

from metaloop.report.paper import write_results

DOCS = Path(__file__).parents[2] / "docs"


def test_results_page_is_generated_from_the_records(tmp_path: Path) -> None:
    """Made again from docs/records, the page is the same to the letter."""
    made = write_results([DOCS / "records"], tmp_path / "results.md")
    assert made.read_text() == (DOCS / "results.md").read_text()
    published = [path for path in (DOCS / "records").rglob("record.json") if json.loads(path.read_text())["paper"]]
    assert made.read_text().count("\n### ") == len(published) == 3
