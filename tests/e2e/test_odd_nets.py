"""Networks with unusual features through the commands: what train says, evaluate says."""

import json
import re
from pathlib import Path

import pytest

from metaloop.cli.main import main
from small_runs import words

MODEL = "_target_: odd_nets.{net}\n"
MIDDLE = "middle:\n  _target_: {middle}\n  _partial_: true\n  _args_: [8]\n"
SHORT = ("trainer.max_steps=4", "validation.every=2", "algorithm/over_tasks=loop")


def train(folder: Path, net: str, middle: str | None, *more: str) -> int:
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "odd.yaml").write_text(
        MODEL.format(net=net) + (MIDDLE.format(middle=middle) if middle else "")
    )
    return main(words(Path("run"), f"hydra.searchpath=[file://{folder / 'conf'}]", "model=odd", *SHORT, *more))


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
    assert train(tmp_path, net, middle, f"algorithm/over_tasks={way}") == 0
    assert main(["evaluate", "run=run", "evaluation.episodes=6"]) == 0
    own = json.loads(Path("run/record.json").read_text())["test"]
    again = [json.loads(path.read_text())["test"] for path in Path("run").rglob("record.json") if path.parent.name != "run"]
    assert [test["mean"] for test in again] == [own["mean"]]


@pytest.mark.parametrize(
    ("net", "more", "message"),
    [
        ("Raises", (), r"Raises.forward .*odd_nets.py, line \d+\) raised KeyError: 'nothing here'"),
        ("RaisesAtOnce", (), r"RaisesAtOnce.__init__ .* raised ValueError: the width must be even"),
        ("Complex", (), "a complex parameter needs outer.optimizer.fused=false"),
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
    assert train(tmp_path, net, None, *more) == 2
    error = capsys.readouterr().err
    assert re.search(message, error.strip().splitlines()[-1])
    assert "fault of metaloop" not in error
