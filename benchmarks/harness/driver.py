"""Driver of the contestants: starts them, lets them take turns, and summarizes the rounds."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import torch

from harness.peers import PEERS
from harness.reference import distance

HERE = Path(__file__).resolve().parents[1]
RECORDS = HERE / "records"
AGREE = 1e-6  # largest relative distance in float64 of meta-gradients and predictions that count as equal


class Process:
    """A contestant in another process, connected by pipes.

    Args:
        kind: "learner" or "sampler".
        name: "metaloop" or another contestant.
        python: interpreter of the environment that it is installed in.
        arguments: see contestant.py.
        environment: variables to add to those of this process.
    """

    def __init__(
        self, kind: str, name: str, python: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        command = [python, str(HERE / "contestant.py"), kind, name, *arguments]
        more = {"GOMP_SPINCOUNT": "10000"} if name == "metaloop" else {}  # as metaloop's command line does
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**more, **os.environ, **(environment or {})}
        )
        self._hear()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Call a method of the contestant's session and return its result.

        Raises:
            RuntimeError: the process ended; its own message is printed above.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def contestants(
    case: Path, peers: Path | None, device: str, overrides: Sequence[str] = (), *, one_thread: bool = False
) -> Iterator[dict[str, Process]]:
    """Start metaloop and, if their virtual environment is given, the peers; yield them by name and end them afterwards.

    Args:
        case: file of the case.
        peers: the peers' virtual environment.
        device: "cpu" or "cuda".
        overrides: further overrides of metaloop's config.
        one_thread: whether the peers get one thread each, where nothing is timed and other work runs on the machine.
    """
    threads = {"OMP_NUM_THREADS": "1"} if one_thread else {}
    with ExitStack() as stack:
        started = [("metaloop", sys.executable, overrides)]
        started += [(name, str(peers / "bin" / "python"), ()) for name in PEERS] if peers else []
        yield {
            name: stack.enter_context(
                Process("learner", name, python, [str(case), device, *more], {} if name == "metaloop" else threads)
            )
            for name, python, more in started
        }


def distances(
    processes: Mapping[str, Process], do: str, dtype: str, tasks: int, expected: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Distance of each contestant's meta-gradient or predictions to ``expected``, relative to the norm of that."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, process in processes.items():
            path = Path(folder) / f"{name}.pt"
            process.ask(do, dtype=dtype, tasks=tasks, path=str(path))
            results[name] = distance(torch.load(path, weights_only=True), dict(expected))
    return results


def check_agreement(errors: Mapping[str, float], what: str) -> None:
    """Check that all contestants compute the same.

    Raises:
        SystemExit: a distance is above `AGREE`.
    """
    wrong = {name: error for name, error in errors.items() if not error < AGREE}
    if wrong:
        names = ", ".join(f"{name} {error:.1e}" for name, error in wrong.items())
        limit = f"relative distance in float64, at most {AGREE:.0e} allowed"
        raise SystemExit(f"{what}: different from the reference: {names} ({limit}); nothing was timed")


def interleaved(processes: Mapping[str, Process], do: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure the seconds of one outer step (or evaluation) in each round; contestants take turns in every round.

    In a round, each takes as many steps as fill ``seconds``, at least one.
    """
    counts = {name: max(1, int(seconds / process.ask(do, count=1))) for name, process in processes.items()}
    times: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            times[name].append(process.ask(do, count=counts[name]))
    return times


def interval(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest value. The true median is between these two with probability 1 - 2 ** (1 - n)."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def compare(times: Mapping[str, Sequence[float]], units: int) -> dict[str, Any]:
    """Units (tasks, episodes) per second of each contestant, and metaloop's ratio to the fastest peer, round by round."""
    rates = {name: [units / seconds for seconds in rounds] for name, rounds in times.items()}
    result: dict[str, Any] = {"rates": {name: interval(values) for name, values in rates.items()}, "rounds": rates}
    peers = {name: statistics.median(values) for name, values in rates.items() if name != "metaloop"}
    if peers:
        fastest = max(peers, key=peers.__getitem__)
        pairs = zip(rates["metaloop"], rates[fastest], strict=True)
        result |= {"fastest_peer": fastest, "ratio": interval([ours / other for ours, other in pairs])}
    return result
