"""docs/anomalies.md: its tables are those of the kept records."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def anomalies() -> ModuleType:
    spec = importlib.util.spec_from_file_location("anomalies_benchmark", ROOT / "benchmarks" / "anomalies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_the_records(anomalies: ModuleType) -> None:
    page = anomalies.PAGE.read_text()
    assert anomalies.filled(page) == page
    assert "not measured" not in page.lower()


def test_every_learner_met_the_same_episodes_of_ten_tables(anomalies: ModuleType) -> None:
    for setting in anomalies.LABELS:
        found = anomalies.results(setting)
        assert set(anomalies.RIVALS) | {anomalies.FIRST} <= set(found)
        assert {len(result.tables) for result in found.values()} == {10}
        assert len({len(result.columns["score"]) for result in found.values()}) == 1


def test_a_result_is_that_of_its_record(anomalies: ModuleType) -> None:
    folder = anomalies.RECORDS / f"{anomalies.FIRST}_0"
    record = json.loads((folder / "record.json").read_text())
    assert anomalies.read(folder).by_table().mean() == pytest.approx(record["test"]["mean"])
    assert record["training"]["cpu_seconds"] < 30 * 60  # the bar
    assert "/tmp" not in json.dumps(record)
