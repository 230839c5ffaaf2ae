"""Launchers that are made for Hydra run the same ledger."""

from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.sweeps.ledger import Ledger
from small_runs import SMALL_CONF, trained

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
SWEEP = Path("outputs/sweeps/small")


def test_joblib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(SMALL_CONF.parent))
    words = ["sweep", "small", "--config-dir", str(SMALL_CONF), "seed=0", "algorithm.rule.lr=0.1,1e38", "--retries", "1"]
    assert main([*words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]) == 1
    jobs = Ledger(SWEEP).jobs()
    assert sorted(job.state for job in jobs) == ["done", "done", "failed", "failed"]
    assert [job.attempts for job in jobs if job.state == "failed"] == [1, 1]  # the loss would be infinite again
    assert "2 done, 2 failed" in capsys.readouterr().out
    good = next(job for job in jobs if job.state == "done" and "algorithm=maml" in job.overrides)
    assert "meta-test accuracy" in (SWEEP / good.directory / "train.log").read_text()
    alone = trained(tmp_path / "alone", "algorithm=maml", "algorithm.rule.lr=0.1")
    assert good.result is not None
    assert good.result["mean"] == alone["test"]["mean"]


def test_one_that_is_not_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "small", "--config-dir", str(SMALL_CONF), "seed=0", "algorithm=maml", "hydra/launcher=nothing"]
    assert main(words) == 2
    assert "hydra/launcher" in capsys.readouterr().err
    assert not list(tmp_path.rglob("run.json"))
