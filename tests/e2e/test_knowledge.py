"""Algorithm selection from the command line: train, evaluate, report, recommend."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from made_scenario import write_scenario
from metaloop.cli.main import main

Captured = pytest.CaptureFixture[str]


def run_of(folder: Path, algorithm: str, *words: str) -> Path:
    scenario = write_scenario(folder / "scenario")
    path = folder / algorithm
    command = ["train", "experiment=meta_knowledge", f"algorithm={algorithm}", f"hydra.run.dir={path}", *words]
    if not any(word.startswith("dataset=") for word in words):
        command.append(f"dataset.path={scenario}")
    assert main([*command, "hydra/job_logging=none", "hydra/hydra_logging=none"]) == 0
    return path


def table(path: Path, rows: int = 90) -> Path:
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "color", "kind"])
        for number in range(rows):
            kind = number % 3
            writer.writerow([round(random.normal(kind), 3), "rgb"[int(random.integers(3))], "abc"[kind]])
    return path


def test_train_evaluate_and_report(tmp_path: Path, capsys: Captured) -> None:
    tree = run_of(tmp_path, "meta_tree", "algorithm.policy.portfolios=[1]")
    record = json.loads((tree / "record.json").read_text())
    assert record["test"]["metric"]["name"] == "gap_left"
    assert record["test"]["mean"] < 0.5 < record["test"]["baseline"]["mean"] == 1.0
    assert record["test"]["oracle"]["score"]["mean"] == pytest.approx(0.0, abs=1e-4)
    assert record["test"]["episodes"] == 18
    page = (tree / "report" / "index.html").read_text()
    assert "→ 2_line" in page
    assert (tree / "report" / "features.png").is_file()
    assert main(["evaluate", f"run={tree}", "episode.shots=6"]) == 0
    assert list(tree.glob("evaluations/*/record.json"))
    assert main(["report", str(tree), "--output", str(tmp_path / "page")]) == 0
    assert "The decision tree, fitted to all 18 data sets" in (tmp_path / "page" / "index.html").read_text()
    capsys.readouterr()


def test_a_learner_that_learns_from_task_to_task_is_refused(tmp_path: Path, capsys: Captured) -> None:
    scenario = write_scenario(tmp_path / "scenario")
    words = [f"dataset.path={scenario}", "dataset=aslib", "episode=scenario", "model=small_mlp", "algorithm=cnp"]
    assert main(["train", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "this data set is a cross-validation" in capsys.readouterr().err


def test_recommend_says_what_to_try_and_why(tmp_path: Path, capsys: Captured) -> None:
    own = table(tmp_path / "own.csv")
    assert main(["recommend", str(own), "label=kind", "--features", "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert "class_entropy" in shown
    assert "try first" in shown
    assert "then (2)" in shown
    assert "Classifier(" in shown or "Regression(" in shown or "GaussianNB(" in shown or "Analysis(" in shown
    assert "why" in shown


def test_recommend_by_the_tree_of_a_run(tmp_path: Path, capsys: Captured) -> None:
    tree = run_of(tmp_path, "meta_tree", "dataset=learners_on_tables", "algorithm.policy.portfolios=[0.5]")
    own = table(tmp_path / "own.csv")
    capsys.readouterr()
    assert main(["recommend", str(own), "label=kind", f"run={tree}"]) == 0
    assert "there, on" in capsys.readouterr().out


def test_recommend_refuses_what_it_cannot_use(tmp_path: Path, capsys: Captured) -> None:
    own = table(tmp_path / "own.csv")
    other = run_of(tmp_path, "nearest_datasets")
    capsys.readouterr()
    for words, message in (
        (["recommend", str(own)], "no column 'label'"),
        (["recommend", str(own), "lable=kind"], "write KEY=VALUE; keys: label="),
        (["recommend", str(tmp_path / "own.parquet")], "a table is a .csv, .tsv or .json file"),
        (
            ["recommend", str(own), "label=kind", f"run={other}"],
            "meta-features rows, curved, noise, often_unknown are not computed",
        ),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
