"""The notebooks run from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks_but_few() -> None:
    """At most four: more would not be kept true."""
    assert 1 <= len(NOTEBOOKS) <= 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    """Every cell runs, no command in it fails, and the ablation's three results are there."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": tmp_path}}).execute()
    shown = "\n".join(
        output.get("text", "") or str(output.get("data", {}).get("text/markdown", ""))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "metaloop:" not in shown, shown
    if path.stem == "first_ablation":
        assert shown.count("meta-test accuracy") == 3
        assert "3/3 done" in shown
        assert all(f"\n{name}" in shown for name in ("all ", "head ", "body "))
    if path.stem == "own_table":
        assert "adapted to          2 classes" in shown
        assert "most important: delay" in shown
    if path.stem == "own_texts":
        assert "adapted to          3 classes, 5 examples of each" in shown
        assert "same predictions: True" in shown
        assert "meta-test accuracy" in shown
