"""Runs of a sweep that are computed together equal runs by themselves, also after kills."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from gated_runs import Gate, jobs, started, wait_until
from metaloop.records.jobs import DONE, RUNNING
from metaloop.records.reading import read_record
from metaloop.system.tensors import load_checkpoint
from small_runs import SMALL_CONF, described, lines_reach, rows, trained

pytestmark = pytest.mark.slow
SINUSOID = (
    "name=pack", "algorithm=maml", "dataset=sinusoid", "model=mlp", "model.hidden=[8]", "episode=regression", "episode.shots=3",
    "episode.queries=4", "outer.meta_batch=3", "trainer.max_steps=60", "validation.every=20", "validation.episodes=4",
    "evaluation.episodes=6", "log_every=10", "stretches=true", "algorithm/over_tasks=vmap",
)  # fmt: skip
AXES = ("seed=0,1", "algorithm.rule.lr=0.01,0.02")


def command(directory: Path, *more: str) -> list[str]:
    own = ["--config-dir", str(SMALL_CONF), "--jobs", "1", f"hydra.sweep.dir={directory}", "sweep.pack=true"]
    return ["train", "-m", *SINUSOID, *AXES, *own, *more]


def assert_close(directory: Path, expected: Path) -> None:
    """Compare parameters and losses of two finished runs."""
    here, there = (load_checkpoint(each / "checkpoints" / "last.ckpt") for each in (directory, expected))
    assert here["global_step"] == there["global_step"] == 60
    for name, value in there["state_dict"].items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(here["state_dict"][name], value, rtol=1e-3, atol=1e-5)
    losses = [[float(row["train/loss"] or "nan") for row in rows(each / "metrics.csv")] for each in (directory, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_pack_equals_runs_by_themselves_and_goes_on_after_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    messages, whole, killed = tmp_path / "messages.txt", tmp_path / "whole", tmp_path / "killed"
    assert started(command(whole), messages).wait() == 0, messages.read_text()
    assert "packed              up to 4 runs at a time" in messages.read_text()
    for job in jobs(whole):
        training = read_record(whole / job.directory).training
        assert training is not None
        assert "together with other runs: a step of 4 runs takes" in (training.stretches or "")
        assert job.result is not None
        assert job.result["steps"] == training.stretches
    first = next(job for job in jobs(whole) if {"seed=1", "algorithm.rule.lr=0.02"} <= set(job.overrides))
    assert described(*SINUSOID, "seed=1", "algorithm.rule.lr=0.02").fingerprint == first.key
    trained(tmp_path / "alone", "seed=1", "algorithm.rule.lr=0.02", small=SINUSOID)
    assert_close(whole / first.directory, tmp_path / "alone")

    with Gate(tmp_path / "gate", 50) as gate:
        sweep = started(command(killed, gate.override), messages)

        def all_wait() -> bool:
            running = [job for job in jobs(killed) if job.state == RUNNING]
            return len(running) == 4 and all(lines_reach(killed / job.directory / "metrics.csv", 7)() for job in running)

        wait_until(all_wait, sweep, messages)
        sweep.kill()
        sweep.wait()
        for job in jobs(killed):
            with suppress(ProcessLookupError):
                os.kill(job.pid or 0, signal.SIGKILL)
        gate.open()
        assert started(command(killed, gate.override), messages).wait() == 0, messages.read_text()
    assert [(job.state, job.attempts) for job in jobs(killed)] == [(DONE, 2)] * 4
    for job in jobs(killed):
        same = next(each for each in jobs(whole) if set(each.overrides) <= set(job.overrides))
        assert_close(killed / job.directory, whole / same.directory)
