"""Two nodes of two ranks each, by torchrun and gloo, on this machine: the result, and what follows from the death of a rank."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from gated_runs import wait_for_end, wait_until
from metaloop.records.jobs import alive
from small_runs import SMALL, SMALL_CONF, rows, trained

pytestmark = pytest.mark.slow
RUN = ["trainer=ddp_cpu", "trainer.devices=2", "+trainer.num_nodes=2"]
BOTH = ["outer.meta_batch=4", "trainer.max_steps=10", "evaluation.episodes=5", "evaluation.batch=4", "validation.episodes=5"]


def node(rank: int, port: int, folder: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """The agent of torchrun on one node; its output and that of its ranks is in ``nodeRANK.txt``."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", f"--node-rank={rank}"]
    there = ["--master-addr=127.0.0.1", f"--master-port={port}", "-m", "metaloop", "train", "--config-dir", str(SMALL_CONF)]
    path = os.pathsep.join(filter(None, [str(SMALL_CONF.parent), os.environ.get("PYTHONPATH")]))
    with (folder / f"node{rank}.txt").open("w") as file:
        return subprocess.Popen(
            [*torchrun, *there, *SMALL, *BOTH, *words],
            cwd=folder,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": path},
        )


def two_nodes(folder: Path, words: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [node(rank, port, folder, words) for rank in (0, 1)]


def parameters(directory: Path) -> torch.Tensor:
    state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten().double() for value in state.values() if isinstance(value, torch.Tensor)])


def test_two_nodes_equal_one_process(tmp_path: Path) -> None:
    ends = [process.wait() for process in two_nodes(tmp_path, RUN)]
    assert ends == [0, 0], (tmp_path / "node0.txt").read_text() + (tmp_path / "node1.txt").read_text()
    (directory,) = (tmp_path / "outputs" / "small").iterdir()
    trained(tmp_path / "one", *BOTH)
    one, four = parameters(tmp_path / "one"), parameters(directory)
    assert float((one - four).norm() / one.norm()) < 1e-5
    ours, theirs = rows(tmp_path / "one" / "episodes.csv"), rows(directory / "episodes.csv")
    assert [(row["index"], row["score"]) for row in theirs] == [(row["index"], row["score"]) for row in ours]


@pytest.mark.parametrize(("phase", "rank"), [("training", 3), ("training", 1), ("start", 2)])
def test_the_death_of_a_rank_ends_all_others_within_a_minute(phase: str, rank: int, tmp_path: Path) -> None:
    """By SIGKILL while all ranks wait, where no connection that breaks could tell the other node."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    agents = two_nodes(tmp_path, [*RUN, f"+logger.held={{_target_:held_runs.Held,gate:{gate},phase:{phase}}}"])
    said = [tmp_path / f"node{number}.txt" for number in (0, 1)]
    wait_until(lambda: all(Path(f"{gate}.at{each}").exists() for each in range(4)), agents[0], said[0])
    numbers = [int(Path(f"{gate}.pid{each}").read_text()) for each in range(4)]
    begin = time.monotonic()
    os.kill(numbers[rank], signal.SIGKILL)
    ends = [agent.wait() for agent in agents]
    seconds = time.monotonic() - begin
    wait_for_end(numbers)
    assert not any(alive(number) for number in numbers)
    texts = [path.read_text() for path in said]
    assert 0 not in ends
    assert seconds < 60, texts
    other = texts[1 - rank // 2]  # the node on which no rank was killed
    assert "this rank ends because another has: rank" in other, other
    assert f"rank {rank}" in other or f"rank {rank ^ 1} " in other, (
        other
    )  # the one that was killed, or its neighbour that was stopped
    assert "this is a fault of metaloop" not in "".join(texts)
