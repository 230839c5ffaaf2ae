"""Problems and metrics of a user's own: every command prints them in their unit, none as a percentage."""

import csv
import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metaloop.cli.main import main

MYLAB = Path(__file__).parent / "mylab"
OURS = ["--config-dir", str(MYLAB / "conf")]
CHOSEN = ["model=tinynet", "episode=regression", "algorithm.rule.lr=0.001", "algorithm/over_tasks=loop", "log_every=10"]
SHORT = ["trainer.max_steps=20", "validation.every=10", "validation.episodes=8", "evaluation.episodes=12"]
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
EXPERIMENT = """\
# @package _global_
# what another town reports
defaults:
  - override /dataset: {dataset}
  - override /episode: regression
  - override /algorithm: maml
  - override /algorithm/over_tasks: loop
  - override /model: tinynet
name: {dataset}2026
algorithm: {{rule: {{lr: 0.001}}}}
log_every: 10
trainer: {{max_steps: 20}}
validation: {{every: 10, episodes: 8}}
evaluation: {{episodes: 12}}
paper:
  citation: Cab et al. 2026
  table: table 1
  metric: {metric}
  published: {{mean: {published}, half_width: {half_width}}}
  mark: M
  tolerance: 1000
"""
Said = Callable[..., str]


@pytest.fixture(autouse=True)
def _at_the_users_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)  # another test may have found the folder instead of the package
    monkeypatch.syspath_prepend(MYLAB)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command that ends well prints."""

    def run(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


def trained(said: Said, dataset: str, algorithm: str) -> tuple[str, dict]:
    run = f"out/{dataset}_{algorithm}"
    words = [f"dataset={dataset}", f"algorithm={algorithm}", f"hydra.run.dir={run}"]
    text = said("train", *OURS, *CHOSEN, *SHORT, *QUIET, *words)
    record = json.loads(Path(run, "record.json").read_text())
    return text, record["test"]


def shown(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


CASES = {"fares": ("fares", "mean absolute error", "dollars", 2), "bets": ("bets", "return", "", 1)}


@pytest.mark.parametrize("dataset", CASES)
def test_D2_F1_every_command_prints_a_metric_of_its_own(dataset: str, said: Said) -> None:
    problem, title, unit, digits = CASES[dataset]
    texts, tests = zip(*(trained(said, dataset, algorithm) for algorithm in ("maml", "anil")), strict=True)
    for text, test in zip(texts, tests, strict=True):
        assert (test["problem"], test["metric"]["title"], test["setting"]) == (problem, title, "10-shot")
        score = f"{shown(test['mean'], digits)} ± {shown(test['half_width'], digits)}"
        assert re.search(rf"meta-test {title} +{score}{f' {unit}' if unit else ''}  ", text)
        assert "%" not in text.replace("95 % interval", "")
    assert ("baseline" in texts[0]) == (dataset == "fares")
    runs = [f"out/{dataset}_maml", f"out/{dataset}_anil"]
    evaluated = said("evaluate", f"run={runs[0]}", "episode.shots=5")
    assert f"meta-test {title}" in evaluated
    assert "5-shot" in evaluated
    said("report", *runs, "--output", "page")
    page, table = Path("page/index.html").read_text(), list(csv.DictReader(Path("page/table.csv").read_text().splitlines()))
    scores = sorted(float(row["mean"]) for row in table if "/" not in row["name"])  # without the later evaluation
    assert scores == pytest.approx(sorted(test["mean"] for test in tests))
    for test in tests:
        assert f"{shown(test['mean'], digits)} ± {shown(test['half_width'], digits)}" in page
    assert (f"{title} ({unit})" if unit else title) in page
    compared = said("compare", *runs)
    difference = tests[0]["mean"] - tests[1]["mean"]
    assert re.search(rf"first − second +{'[+−]'}{shown(abs(difference), digits)} ± ", compared)
    assert "points" not in compared


@pytest.mark.parametrize(("dataset", "published"), [("fares", "4.25 ± 0.50"), ("bets", "−312.5 ± 40.0")])
def test_a_published_number_is_reproduced(dataset: str, published: str, said: Said, tmp_path: Path) -> None:
    mean, half_width = (float(number.replace("−", "-")) for number in published.split(" ± "))
    problems = importlib.import_module("mylab.fares")  # on the path in tests alone
    metric = json.dumps({"fares": problems.Dollars, "bets": problems.Return}[dataset].metric.as_dict())  # JSON is YAML
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    text = EXPERIMENT.format(dataset=dataset, metric=metric, published=mean, half_width=half_width)
    (tmp_path / "conf" / "experiment" / f"{dataset}2026.yaml").write_text(text)
    both = ["--config-dir", str(tmp_path / "conf"), *OURS]
    told = said("reproduce", f"{dataset}2026", *both, "--seeds", "1", "--output", "results.md")
    (line,) = (line for line in told.splitlines() if line.startswith(f"{dataset}2026"))
    assert f"published {published}" in line
    assert "reproduced" in line
    page = Path("results.md").read_text()
    assert rf"{published} \[M\]" in page
    assert CASES[dataset][1].capitalize() in page
