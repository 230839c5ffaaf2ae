"""``metaloop compare`` on runs that were trained, and what it says where something is missing."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from metaloop.cli.main import main
from metaloop.evaluation.comparison import _EpisodePredictor
from small_runs import words


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small runs that differ in their seed."""
    root = tmp_path_factory.mktemp("compared")
    for seed in range(2):
        assert main(words(root / f"seed{seed}", f"seed={seed}")) == 0
    return root / "seed0", root / "seed1"


def test_the_answers_are_those_of_the_meta_test(runs: tuple[Path, Path]) -> None:
    """Anew from the checkpoint, an episode is answered as it was scored."""
    with (runs[0] / "episodes.csv").open() as file:
        scores = {int(row["index"]): float(row["score"]) for row in csv.DictReader(file)}
    for number, samples in zip((4, 1), _EpisodePredictor(runs[0])([4, 1]), strict=True):
        assert samples["index"] == number
        right = (samples["probabilities"].argmax(-1) == samples["query_y"]).mean()
        assert right == pytest.approx(scores[number])
        assert np.allclose(samples["probabilities"].sum(-1), 1)


def test_the_command_writes_the_page_and_says_the_difference(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, runs), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "first − second" in said
    assert "differs             seed: 0 | 1" in said
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img") > 1 or "ahead in 0, seed1 in 0" in page
    assert "not shown" not in page


def test_without_a_checkpoint_the_records_are_still_compared(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = shutil.copytree(runs[1], tmp_path / "bare")
    shutil.rmtree(bare / "checkpoints")
    assert main(["compare", str(runs[0]), str(bare), "--output", str(tmp_path / "out")]) == 0
    assert "The episodes are not shown: no checkpoint at" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["no/such", "no/other"], "no/such: there is no such folder"),
        (["{0}"], "required: B"),
        (["{0}", "{0}/checkpoints"], "record.json"),
    ],
)
def test_mistakes_are_told(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], given: list[str], part: str) -> None:
    assert main(["compare", *(word.format(runs[0]) for word in given)]) == 2
    assert part in capsys.readouterr().err
