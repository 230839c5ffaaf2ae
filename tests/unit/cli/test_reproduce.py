"""``metaloop reproduce``: looks, runs what has no record, writes the page, and says where it disagrees."""

import json
import shutil
from pathlib import Path

import pytest
from made_runs import MakeRun, paper_block, run_factory

from metaloop.cli.kept_records import finished_runs, keep
from metaloop.cli.main import main
from metaloop.config.experiments import read_experiments
from metaloop.errors import UserError
from metaloop.records.schema import SCHEMA
from metaloop.report.tables.published import Experiment

CONF = Path(__file__).parents[2] / "small_conf"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration of one experiment more."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    paper = json.dumps(paper_block() | {"published": {"mean": 0.9, "half_width": None}, "tolerance": 0.02})
    (folder / "someone2020_small.yaml").write_text(f"# @package _global_\n# An experiment\npaper: {paper}\n")
    return tmp_path


def _record(place: Path, mean: float, folder: str = "s0", seed: int = 0, **more: object) -> Path:
    make: MakeRun = run_factory(place / "docs" / "records")
    paper = paper_block() | {"published": {"mean": 0.9, "half_width": None}, "tolerance": 0.02}
    choices = {"algorithm": "maml", "dataset": "glyphs", "model": "conv4", "experiment": "someone2020_small"}
    return make(folder, name="small", paper=paper, mean=mean, seed=seed, choices=choices, samples=False, **more)


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["reproduce", "--config-dir", "conf", *words])
    out, err = capsys.readouterr()
    return code, out, err


def _line(out: str) -> str:
    return next(line for line in out.splitlines() if line.startswith("someone2020_small"))


def test_each_outcome_is_said_and_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _said(capsys)
    assert (code, _line(out).split("  ")[-1].strip()) == (0, "not run yet")
    page = (place / "docs" / "results.md").read_text()
    assert r"| someone2020\_small | glyphs | 90.00" in page.split("## Not run yet")[1]
    _record(place, 0.915)
    assert "reproduced within the tolerance of 2.00: 9" in _line(_said(capsys)[1])
    _record(place, 0.85, "s1", seed=1)
    _record(place, 0.80, "s2", seed=2)
    line = _line(_said(capsys)[1])
    assert "off by −4.9" in line
    assert "(worse)" in line
    assert "3 seeds" in line
    assert "off by −4.9" in (place / "docs" / "results.md").read_text()


def test_check_says_when_page_and_records_disagree(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _said(capsys, "--check")
    assert code == 2
    assert "in a checkout" in err
    assert not (place / "docs").exists()
    assert _said(capsys)[0] == 0
    assert _said(capsys, "--check")[0] == 0
    _record(place, 0.91)
    code, out, _ = _said(capsys, "--check")
    assert code == 1
    assert r"+| someone2020\_small | 5-way 1-shot | 90.00 [" in out.replace("\\[", "[")
    assert r"-| someone2020\_small | glyphs |" in out


def test_of_repeated_records_the_newest_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _record(place, 0.5, created="2026-03-01T00:00:00+00:00")
    _record(place, 0.9, "again", created="2026-03-02T00:00:00+00:00")
    assert "reproduced" in _line(_said(capsys)[1])


def test_a_torn_record_is_an_error_and_the_page_stays(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _record(place, 0.91)
    _said(capsys)
    before = (place / "docs" / "results.md").read_text()
    record = place / "docs" / "records" / "s0" / "record.json"
    record.write_text(record.read_text()[:500])
    code, _, err = _said(capsys)
    assert code == 2
    assert "record.json: no readable record" in err
    assert (place / "docs" / "results.md").read_text() == before


def test_a_record_of_an_older_schema_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _record(place, 0.91, schema=0)
    code, _, err = _said(capsys)
    assert code == 2
    assert f"written with schema 0, this version reads {SCHEMA}" in err


def test_the_list_of_experiments_says_what_is_reproduced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def remark() -> str:
        assert main(["list", "experiments", "someone", "--config-dir", "conf"]) == 0
        return capsys.readouterr().out.split("\t")[-1].strip()

    assert remark() == "not run yet"
    _record(place, 0.9)
    assert remark() == "1 of 1 numbers reproduced or better, 2 min"
    _record(place, 0.5, created="2027-01-01T00:00:00+00:00", folder="later")
    assert remark() == "0 of 1 numbers reproduced or better, 2 min"


def test_kept_records_name_no_place_of_a_machine(place: Path) -> None:
    config = {"seed": 3, "dataset": {"data_dir": "/far/away/omniglot", "side": 28}}
    path = _record(place, 0.9, seed=3, config=config) / "record.json"
    words = ["experiment=someone2020_small", "hydra.run.dir=/far/away/run"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"command": ["metaloop", "train", *words], "overrides": words}))
    experiment = Experiment("someone2020_small", "glyphs", None)
    (directory, record, _), *others = finished_runs(place / "docs", {experiment.name: experiment})
    assert not others
    kept = keep(directory, record, experiment, place / "kept")
    assert kept == place / "kept" / "someone2020_small" / "seed3"
    assert json.loads((kept / "record.json").read_text())["config"]["dataset"] == {"data_dir": "data/omniglot", "side": 28}
    assert "/far" not in (kept / "record.json").read_text()
    assert keep(directory, record, experiment, place / "kept") == kept  # a later run of the row takes its place


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["someone2020_smal"], "did you mean someone2020_small"),
        (["trainer.max_steps=3"], "name the experiments"),
        (["someone2020_small", "--seeds", "0"], "--seeds 0: must be at least 1"),
    ],
)
def test_mistakes_are_told(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    code, _, err = _said(capsys, *words)
    assert code == 2
    assert part in err


def test_a_wrong_block_names_its_file(place: Path) -> None:
    (place / "conf" / "experiment" / "wrong.yaml").write_text("# @package _global_\npaper: {citation: someone}\n")
    with pytest.raises(UserError, match=r"wrong\.yaml: .*paper\.table is missing"):
        read_experiments(["conf"])


def test_what_has_no_record_is_run_and_then_taken(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = place / "conf" / "experiment"
    groups = "".join(f"  - override /{line}\n" for line in ("dataset: blobs", "model: tiny", "algorithm/over_tasks: loop"))
    head = f"# @package _global_\n# An experiment\ndefaults:\n{groups}"
    small = (
        "name: tiny_one\nepisode: {ways: 3, queries: 2}\nouter: {meta_batch: 2}\ntrainer: {max_steps: 2}\n"
        "validation: {every: 1, episodes: 4}\nevaluation: {episodes: 6}\n"
    )
    also = {"3q": {"table": "three queries a class", "overrides": ["episode.queries=3"]}}
    paper = json.dumps(paper_block() | {"published": {"mean": 0.5, "half_width": None}, "tolerance": 1.0, "also": also})
    (folder / "tiny2021_one.yaml").write_text(f"{head}{small}paper: {paper}\n")
    words = ["reproduce", "tiny2021_one", "--seeds", "2", "-cd", "conf", "-cd", str(CONF)]
    assert main(words) == 0
    out = capfd.readouterr().out
    assert "2 done" in out
    assert "2 seeds" in next(line for line in out.splitlines() if line.startswith("tiny2021_one  "))
    assert main(words) == 0  # finished records are taken
    assert "done" not in capfd.readouterr().out
    record = json.loads(next(Path("outputs/reproduce").rglob("evaluations/*/record.json")).read_text())
    assert record["overrides"] == ["episode.queries=3"]
    keep = ["reproduce", "--keep", "outputs/reproduce", "-cd", "conf", "-cd", str(CONF)]
    assert main(keep) == 0
    kept = Path("docs/records/reproduction/tiny2021_one")
    names = ["episodes.csv", "evaluations", "metrics.csv", "record.json"]
    assert sorted(path.name for path in (kept / "seed0").iterdir()) == names
    assert sorted(path.name for path in (kept / "seed1/evaluations/3q").iterdir()) == ["episodes.csv", "record.json"]
    assert "run=tiny2021_one/seed0" in json.loads((kept / "seed0/evaluations/3q/record.json").read_text())["command"]
    shutil.rmtree("outputs")
    capfd.readouterr()
    assert main(["reproduce", "-cd", "conf", "-cd", str(CONF), "--check"]) == 0
    assert "no published number" in next(line for line in capfd.readouterr().out.splitlines() if "tiny2021_one / 3q" in line)
