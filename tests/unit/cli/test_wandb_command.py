"""``metaloop wandb sync``: what is sent, in what order, once; W&B's own command is played by a stand-in."""

import fcntl
import json
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.cli.wandb import sync
from wandb_files import without_account

Captured = pytest.CaptureFixture[str]
FOLDERS = ("a/wandb/offline-run-20260101_000002-aa", "b/wandb/offline-run-20260101_000000-bb")
# Stands in W&B's place: notes what it was told, marks what it "sent", fails for one run.
STAND_IN = """
import json, sys
from pathlib import Path
with Path("told.jsonl").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
for folder in map(Path, sys.argv[2:]):
    if folder.name.endswith("-aa") and not Path("mended").exists():
        sys.exit(0)  # W&B's own status says nothing of a run that could not be sent
    for path in folder.glob("*.wandb"):
        path.with_suffix(".wandb.synced").touch()
"""


@pytest.fixture(autouse=True)
def _made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs without an account, one of which was started twice."""
    monkeypatch.chdir(tmp_path)
    without_account(tmp_path, monkeypatch)
    for name in FOLDERS:
        folder = tmp_path / "outputs" / "sweep" / name
        folder.mkdir(parents=True)
        (folder / f"run-{name[-2:]}.wandb").write_bytes(b":W&B...and records")
    (tmp_path / "outputs/sweep/a/wandb/latest-run").symlink_to("offline-run-20260101_000002-aa")
    empty = tmp_path / "outputs/sweep/b/wandb/offline-run-20260101_000009-bb"  # W&B was killed before it wrote
    empty.mkdir()
    (empty / "run-bb.wandb").write_bytes(b":W&B...")
    (tmp_path / "outputs/sweep/b/wandb/offline-run-20260101_000008-bb").mkdir()  # even before it made its file


def test_a_dry_run_names_all_and_sends_nothing(capsys: Captured) -> None:
    assert main(["wandb", "sync", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "2 offline runs, 0 sent already, 2 to send" in printed
    assert all(printed.count(name) == 1 for name in FOLDERS)
    assert "000009" not in printed
    assert not list(Path().rglob("*.synced"))


def test_one_run_that_fails_stops_no_other_and_is_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    (Path("stand_in") / "wandb").mkdir(parents=True)
    Path("stand_in/wandb/__init__.py").touch()
    Path("stand_in/wandb/__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(Path("stand_in").resolve()))
    assert main(["wandb", "sync"]) == 1
    captured = capsys.readouterr()
    assert f"{FOLDERS[0]}  FAILED" in captured.out
    assert f"{FOLDERS[1]}  sent" in captured.out
    assert "1 runs could not be sent" in captured.err
    Path("mended").touch()
    assert main(["wandb", "sync", "outputs/sweep", "outputs"]) == 0
    assert "2 offline runs, 1 sent already, 1 to send" in capsys.readouterr().out
    assert main(["wandb", "sync"]) == 0
    assert "2 offline runs, 2 sent already, 0 to send" in capsys.readouterr().out
    told = [json.loads(line) for line in Path("told.jsonl").read_text().splitlines()]
    assert [[word.removeprefix(f"{Path.cwd()}/outputs/sweep/") for word in words] for words in told] == [
        ["sync", FOLDERS[0]],
        ["sync", FOLDERS[1]],
        ["sync", FOLDERS[0]],
    ]


def test_a_run_that_is_running_waits(capsys: Captured) -> None:
    sent: list[str] = []

    def send(folder: Path) -> int:
        sent.append(folder.name)
        (folder / "run.wandb.synced").touch()
        return 0

    with Path("outputs/sweep/a/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sync([Path("outputs")], dry_run=False, send=send) == 0
    assert "-aa  is running" in capsys.readouterr().out
    assert sync([Path("outputs")], dry_run=False, send=send) == 0
    assert sent == ["offline-run-20260101_000000-bb", "offline-run-20260101_000002-aa"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["wandb", "sync"], "`wandb login` or set WANDB_API_KEY"),
        (["wandb", "sink"], "did you mean sync"),
        (["wandb", "sync", "output"], "wandb sync output: there is no such folder"),
    ],
)
def test_a_mistake_is_said(words: list[str], reason: str, capsys: Captured) -> None:
    assert main(words) == 2
    assert reason in capsys.readouterr().err
