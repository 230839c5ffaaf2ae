"""The tables of docs/comparisons.md are what ``metaloop report`` makes of the committed records."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from metaloop.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "comparisons.md"
COMMANDS = re.findall(r"^metaloop report (docs/records/.*)$", PAGE.read_text(), re.MULTILINE)
CPU_SECONDS = 20 * 60  # of training that each learner of the Omniglot table may have


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0].rpartition("/")[2])
def test_a_table_is_what_its_command_makes(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["report", *shlex.split(command), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "pivot.md").read_text().strip() in PAGE.read_text()


def test_the_page_names_every_comparison() -> None:
    folders = {path.name for path in (ROOT / "docs" / "records").iterdir() if not (path / "record.json").exists()}
    # in pages of their own
    own_pages = {"anomalies", "meta_knowledge", "pfn_tables", "pfn_tables_regression", "promp_navigation_tuning", "studies"}
    assert {command.split()[0].rpartition("/")[2] for command in COMMANDS} == folders - own_pages - {"reproduction"}


def test_learners_of_the_omniglot_table_were_trained_as_long_as_it_says() -> None:
    records = [json.loads(path.read_text()) for path in (ROOT / "docs/records/omniglot_learners").rglob("record.json")]
    planned = yaml.safe_load((ROOT / "conf/sweep/omniglot_learners.yaml").read_text())["points"]
    assert sorted(record["choices"]["algorithm"] for record in records) == sorted(point["algorithm"] for point in planned)
    assert all(record["training"]["cpu_seconds"] <= CPU_SECONDS for record in records)


def test_second_order_on_low_rank_adapters_took_the_memory_that_the_page_says() -> None:
    records = [json.loads(path.read_text()) for path in (ROOT / "docs/records/text_few_shot").glob("*maml_lora/record.json")]
    assert len(records) == 4
    most = max(record["training"]["peak_memory_bytes"] for record in records) / 1e9
    assert f"trainings took was {most:.2f} GB" in " ".join(PAGE.read_text().split())
    assert most < 6
