"""docs/tables.md: its tables are those of the kept records, and what the shipped runs say of themselves is true."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from metaloop.evaluation.pretrained.shipped import shipped_run, shipped_runs

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables_benchmark", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_the_records(tables: ModuleType) -> None:
    page = tables.PAGE.read_text()
    assert tables.filled(page) == page
    assert page.count("\n| random forest |") == 3


def test_a_tables_score_is_the_mean_over_its_splits(tables: ModuleType) -> None:
    result = tables.read(tables.RECORDS / "pfn_tables" / "one_member")
    assert len(result.tables) == 17
    assert result.splits == 20
    record = json.loads((tables.RECORDS / "pfn_tables" / "one_member" / "record.json").read_text())
    assert result.scores.mean() == pytest.approx(record["test"]["mean"])
    assert np.ptp(result.scores) > 0


@pytest.mark.parametrize("name", ["pfn", "pfn_regression", "detector"])
def test_a_shipped_run_is_small_and_names_no_folder_of_a_machine(name: str) -> None:
    assert name in shipped_runs()
    files = [path for path in shipped_run(name).rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["best.ckpt", "record.json", "run.json"]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    text = "".join(path.read_text() for path in files if path.suffix == ".json")
    assert "/tmp" not in text
    assert "/home" not in text
    assert "/root" not in text
