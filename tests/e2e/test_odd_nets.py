"""Networks with unusual features through the commands: what train says, evaluate says."""

import json
import re
from pathlib import Path

import pytest

from metaloop.cli.main import main

ROOT = Path(__file__).parents[1]
SMALL = (
    "dataset=glyphs algorithm/over_tasks=loop episode.queries=2 outer.meta_batch=2 trainer.max_steps=4 "
    "validation.every=2 validation.episodes=4 evaluation.episodes=12"
)


def conf(folder: Path, net: str, middle: str | None = None) -> list[str]:
    (folder / "conf" / "model").mkdir(parents=True)
    lines = [f"_target_: odd_nets.{net}"]
    if middle is not None:
        lines += ["middle:", f"  _target_: {middle}", "  _partial_: true", "  _args_: [8]"]
    (folder / "conf" / "model" / "odd.yaml").write_text("\n".join(lines) + "\n")
    return ["--config-dir", str(folder / "conf"), "model=odd"]


def words(*more: str) -> list[str]:
    return [*SMALL.split(), "hydra.run.dir=run", *more]


@pytest.mark.parametrize(
    ("net", "middle", "way"),
    [
        ("TwoPaths", None, "loop"),
        ("Listed", None, "vmap"),
        ("Twice", None, "loop"),
        ("Net", "torch.nn.BatchNorm1d", "vmap"),
        ("WithBuffer", "torch.nn.LayerNorm", "vmap"),
    ],
)
def test_A1_evaluate_says_what_the_runs_own_test_said(
    net: str, middle: str | None, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *conf(tmp_path, net, middle), *words(f"algorithm/over_tasks={way}")]) == 0
    assert main(["evaluate", "run=run", "evaluation.episodes=12"]) == 0
    own = json.loads(Path("run/record.json").read_text())["test"]
    again = [json.loads(path.read_text())["test"] for path in Path("run").rglob("record.json") if path.parent.name != "run"]
    assert [test["mean"] for test in again] == [own["mean"]]


@pytest.mark.parametrize(
    ("net", "more", "message"),
    [
        ("Raises", (), r"Raises.forward .*odd_nets.py, line \d+\) raised KeyError: 'nothing here'"),
        ("RaisesAtOnce", (), r"RaisesAtOnce.__init__ .* raised ValueError: the width must be even"),
        ("Lazy", (), "has layers without a size"),
        ("AnswersDict", (), "must return one tensor"),
        ("Recurrent", ("algorithm/over_tasks=vmap",), "vmap cannot run this network"),
        ("TiedHead", ("algorithm=anil",), "is also the parameter 'first.weight'"),
        ("TwoPaths", ("algorithm=anil",), "was assigned as 'last' before"),
    ],
)
def test_A7_a_fault_of_the_network_is_told_as_such(
    net: str,
    more: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *conf(tmp_path, net), *words(*more)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error.strip().splitlines()[-1])
    assert "fault of metaloop" not in error
