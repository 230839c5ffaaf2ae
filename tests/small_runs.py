"""Small runs for tests: synthetic pictures, a tiny network and a few outer steps, in this process."""

import csv
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from metaloop.cli.main import main
from metaloop.config.composed import RunComposer
from metaloop.config.composition import composer
from metaloop.config.overrides import parse
from metaloop.config.trust import remember
from metaloop.data.distribution import SPLITS, Dataset
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.models.mlp import MLP
from metaloop.records.schema import RunIdentity
from metaloop.records.writing import record_as_dict
from metaloop.runs.start import run_rank
from metaloop.tracking.tracker import RunInfo, Tracker
from metaloop.types import EpisodeSpec, Tasks

SMALL_CONF = Path(__file__).parent / "small_conf"
SMALL = (
    "name=small",
    "dataset=blobs",
    "model=tiny",
    "algorithm/over_tasks=loop",
    "episode.ways=3",
    "episode.queries=2",
    "outer.meta_batch=2",
    "trainer.max_steps=6",
    "validation.every=2",
    "validation.episodes=4",
    "evaluation.episodes=6",
    "log_every=1",
)
# A small run of whole tables, as experiment=pfn_tables is; meta-test on iris.
TABLES = (
    "dataset=table_prior",
    "model=cells",
    "algorithm=tabular_transformer",
    "algorithm.reader.width=8",
    "episode=table",
    "episode.ways=3",
    "episode.shots=5",
    "episode.queries=5",
    "episode.train.shots=[2,5]",
    "outer.optimizer.lr=0.01",
)
_BASES: dict[Any, Any] = {}  # compositions by the choices of groups
# Keeps Hydra from changing the logging of the test process.
QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")


class SpiedPool(ClassPool):
    """Records which episodes are drawn."""

    def draw(self, stream: Stream, numbers: torch.Tensor, spec: EpisodeSpec) -> Tasks:
        Blobs.drawn.append((self.split, numbers.tolist()))
        return super().draw(stream, numbers, spec)


class Blobs(Dataset):
    """Classes of a split; a drawing is noise around its class's picture.

    Attributes:
        drawn: split and numbers of every draw of any instance, in order.
    """

    drawn: ClassVar[list[tuple[str, list[int]]]] = []

    def __init__(self, side: int = 16, classes: int = 6, drawings: int = 8) -> None:
        self._pools = {split: self._pool(split, side, classes, drawings) for split in SPLITS}

    @staticmethod
    def _pool(split: str, side: int, classes: int, drawings: int) -> SpiedPool:
        generator = torch.Generator().manual_seed(SPLITS.index(split))
        means = 255 * torch.rand(classes, 1, 1, side, side, generator=generator)
        noise = 60 * torch.randn(classes, drawings, 1, side, side, generator=generator)
        images = (means + noise).clamp(0, 255).to(torch.uint8).flatten(0, 1)
        return SpiedPool(images, [drawings] * classes, [f"{split}{number}" for number in range(classes)], split=split)

    def split(self, name: str) -> SpiedPool:
        return self._pools[name]


class Words(Dataset):
    """Six classes in each split, of eight sentences of up to ten tokens; each class prefers certain tokens."""

    def split(self, name: str) -> ClassPool:
        generator = torch.Generator().manual_seed(SPLITS.index(name))
        tokens = torch.randint(2, 90, (48, 10), generator=generator)
        tokens[:, 0] = 90 + torch.arange(6).repeat_interleave(8)
        mask = (torch.arange(10) < torch.randint(4, 11, (48, 1), generator=generator)).long()
        inputs = {"input_ids": tokens * mask, "attention_mask": mask}
        return ClassPool(inputs, [8] * 6, [f"{name}{number}" for number in range(6)], split=name)


def make_scenario_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``folder`` the place of data, with an empty file where the scenario of ASlib is looked for."""
    place = folder / "tabular" / "aslib"
    place.mkdir(parents=True)
    (place / "OPENML-WEKA-2017.zip").touch()
    monkeypatch.setenv("METALOOP_DATA", str(folder))


def described(*overrides: str) -> RunIdentity:
    """Return the contents of run.json for a run with these overrides of the whole config, as if the user had started it."""
    folders = [str(SMALL_CONF)]
    with composer("train", folders, [parse(line) for line in overrides]) as hydra:
        made = RunComposer(hydra, folders)
        made._bases = _BASES  # composing takes longer than a small run; configuration files do not change during tests
        identity = made.compose(overrides).identity(None)
    remember(identity.config)
    return identity


def trained(directory: Path, *overrides: str, resume: bool = False, small: Sequence[str] = SMALL) -> dict[str, Any]:
    """Run ``small`` with ``overrides`` in ``directory`` as one rank, and return the record."""
    directory.mkdir(parents=True, exist_ok=True)
    return record_as_dict(run_rank(described(*small, *overrides), directory, resume))


def words(directory: Path, *overrides: str) -> list[str]:
    """Return the arguments of ``metaloop`` for a small run in ``directory``."""
    return ["train", "--config-dir", str(SMALL_CONF), *SMALL, *QUIET, f"hydra.run.dir={directory}", *overrides]


def rows(path: Path, without: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a CSV file without some columns."""
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in without} for row in csv.DictReader(file)]


def outcome(directory: Path) -> dict[str, Any]:
    """Return all of a finished run that must not depend on time, machine, folder or interruptions."""
    checkpoints = {name: torch.load(directory / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")}
    return {
        "episodes": (directory / "episodes.csv").read_text(),
        "metrics": rows(directory / "metrics.csv", without=["train/tasks_per_second"]),
        "steps": {name: checkpoint["global_step"] for name, checkpoint in checkpoints.items()},
        "parameters": {
            f"{name}:{key}": value.numpy().tobytes()
            for name, checkpoint in checkpoints.items()
            for key, value in checkpoint["state_dict"].items()
            if isinstance(value, torch.Tensor)
        },
        "optimizer": repr(checkpoints["last"]["optimizer_states"]),
        "schedule": repr(checkpoints["last"]["lr_schedulers"]),
    }


def sweep_outcomes(directory: Path) -> dict[str, object]:
    """Return the meta-test and episodes of every finished run of a sweep, by overrides."""
    found = {}
    for path in directory.rglob("record.json"):
        record = json.loads(path.read_text())
        found[" ".join(record["overrides"])] = record["test"], (path.parent / "episodes.csv").read_text()
    return found


class Dropping(MLP):
    """Draws random numbers in every forward pass of training, as dropout does."""

    def forward(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(torch.nn.functional.dropout(x, 0.5, self.training), weight)


class Hungry(MLP):
    """Takes memory in its first forward pass and keeps it, in every process or only in workers."""

    kept: ClassVar[list[torch.Tensor]] = []

    def __init__(self, *arguments: Any, megabytes: int, where: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.megabytes, self.where = megabytes, where

    def forward(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        here = self.where == "everywhere" or any("metaloop.inner.execution.worker" in word for word in sys.orig_argv)
        if here and not Hungry.kept:
            Hungry.kept.append(torch.ones(self.megabytes, 2**18))
        return super().forward(x, weight)


class Killer(Tracker):
    """Ends the run of one seed by SIGKILL when it logs an outer step for the first time, once W&B has begun to write."""

    def __init__(self, seed: int, step: int) -> None:
        self.seed, self.step = seed, step
        self.directory = Path()

    def start(self, run: RunInfo) -> None:
        self.directory = run.directory
        if run.config["seed"] != self.seed or run.resumed_step:
            self.step = -1

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self.step:
            deadline = time.monotonic() + 60
            while not any(self.directory.glob("wandb/offline-run-*/*.wandb")):
                assert time.monotonic() < deadline, "W&B has not begun"
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        pass


def trained_all(directory: str, runs: dict[str, list[str]], small: Sequence[str] = SMALL) -> None:
    """A small run for each name, below ``directory``; as a rank of several calls it."""
    for name, overrides in runs.items():
        trained(Path(directory) / name, *overrides, small=small)


def assert_goes_on(tmp_path: Path, small: Sequence[str], after: int) -> None:
    """A run that ended after so many outer steps and is resumed must end bit-equal to one that was never stopped."""
    whole, part = tmp_path / "whole", tmp_path / "parts"
    trained(whole, small=small)
    trained(part, f"trainer.max_steps={after}", small=[word for word in small if "max_steps" not in word])
    checkpoints = [directory / "checkpoints" / "last.ckpt" for directory in (whole, part)]
    of_whole, of_part = (torch.load(path, weights_only=True) for path in checkpoints)
    of_part["metaloop"]["fingerprint"] = of_whole["metaloop"]["fingerprint"]  # they differ by their number of steps
    torch.save(of_part, checkpoints[1])
    trained(part, small=small, resume=True)
    for kept in ("parameters", "episodes"):
        assert outcome(part)[kept] == outcome(whole)[kept]


def distance_of_parameters(one: Path, two: Path) -> float:
    """Distance of all parameters and buffers at the end of two runs, relative to the size of the first."""
    states = []
    for directory in (one, two):
        state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        states.append(torch.cat([value.flatten().double() for value in state.values() if isinstance(value, torch.Tensor)]))
    return float((states[0] - states[1]).norm() / states[0].norm())


def killed(directory: Path, when: Callable[[], bool], argv: Sequence[str]) -> None:
    """Start the command in another process and end it by SIGKILL as soon as ``when``; a gate keeps it from ending before.

    Processes come from a server that has everything imported, so that they start at once. Another test may have started it in
    another environment.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["small_runs", "metaloop.config.build", "metaloop.training.run", "metaloop.report.pages.run_report"]
    )
    process = context.Process(target=_run_command, args=(str(directory), list(argv), dict(os.environ)))
    process.start()
    while process.is_alive() and not when():
        process.join(timeout=0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run had ended before it was killed"
    process.close()


def _run_command(directory: str, argv: list[str], environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with (Path(directory) / "said.txt").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    raise SystemExit(main(argv))


def lines_reach(path: Path, count: int) -> Callable[[], bool]:
    """Whether the file has at least this many lines."""
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= count
