"""One contestant in its own process, which reads and writes JSON lines. Started by the benchmarks, not by hand.

python benchmarks/contestant.py learner NAME CASE_FILE DEVICE [untuned] [OVERRIDE ...]
python benchmarks/contestant.py sampler NAME CASE_FILE
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import resident
from harness.cases import Batch, convert, load
from harness.peers import PEERS, Contestant
from harness.samplers import SamplingSession
from torch import Tensor


def make(name: str, arguments: list[str]) -> tuple[Contestant, Batch, int]:
    """Build the contestant and load its tasks; return both with the resident bytes before the case was loaded."""
    path, device, *overrides = arguments
    torch.backends.cudnn.allow_tf32 = False  # metaloop's default, for all
    if name == "metaloop":
        from harness.ours import Metaloop

        before = _level()
        case, weights, tasks = load(Path(path))
        tuned, words = "untuned" not in overrides, [word for word in overrides if word != "untuned"]
        made: Contestant = Metaloop(case, weights, device, words, tuned=tuned)
    else:
        __import__("peer_learn2learn" if name == "learn2learn" and _shimmed() else name)
        before = _level()
        case, weights, tasks = load(Path(path))
        made = PEERS[name](case, weights, device)
    return made, {key: value.to(device) for key, value in tasks.items()}, before


def _level() -> int:
    """Resident bytes after a first use of torch, which loads parts that the imports of some libraries load earlier."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 2))
    loss = net(torch.ones(2, 1, 8, 8)).square().mean()
    gradients = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    torch.stack([g.square().sum() for g in gradients]).sum().backward()
    torch.optim.Adam(net.parameters()).step()
    return resident.level()


def _shimmed() -> bool:
    import importlib.util

    return importlib.util.find_spec("peer_learn2learn") is not None


class Session:
    """Methods that the driver can call; each returns a JSON value.

    Args:
        contestant: a newly built contestant.
        tasks: tasks of one outer step, or all evaluation episodes.
        baseline: resident bytes after the imports.
    """

    def __init__(self, contestant: Contestant, tasks: Batch, baseline: int) -> None:
        self.contestant = contestant
        self.tasks = tasks
        self.baseline = baseline
        self.optimizer = contestant.optimizer()
        self.start = [parameter.detach().clone() for parameter in contestant.parameters()]

    def about(self) -> dict[str, Any]:
        """Versions, choices and threads."""
        return {**self.contestant.about(), "threads": torch.get_num_threads()}

    def change(self, path: str) -> None:
        """Take other starting weights and tasks, of a file of the same case, for `meta_gradient` and `answers`."""
        _, weights, tasks = load(Path(path))
        device = self.tasks["support_x"].device
        self.tasks = {name: value.to(device) for name, value in tasks.items()}
        self.start = [weights[name].to(device) for name, _ in self.contestant.model.named_parameters()]

    def outer_steps(self, count: int) -> float:
        """Take outer steps (meta-gradient and Adam); return the seconds of one."""
        return self._timed(lambda: self.contestant.outer_steps(self.optimizer, self.tasks, count), 1) / count

    def evaluations(self, count: int) -> float:
        """Adapt to all tasks and predict their queries; return the seconds of one pass over them."""
        return self._timed(lambda: self.contestant.answers(self.tasks), count)

    def _outer_step(self) -> None:
        self.contestant.outer_steps(self.optimizer, self.tasks, 1)

    def _timed(self, run: Callable[[], Any], count: int) -> float:
        self._wait()
        start = time.perf_counter()
        for _ in range(count):
            run()
        self._wait()
        return (time.perf_counter() - start) / count

    def _wait(self) -> None:
        if self.tasks["support_x"].device.type == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> dict[str, int]:
        """Bytes after the imports, highest so far (choices and compiling included), and highest during one more outer step."""
        if self.tasks["support_x"].device.type == "cuda":
            whole = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self._outer_step()
            return {"baseline": 0, "whole_peak": whole, "step_peak": torch.cuda.max_memory_allocated()}
        whole = resident.peak()
        resident.forget_peak()
        self._outer_step()
        return {"baseline": self.baseline, "whole_peak": whole, "step_peak": resident.peak()}

    def one_meta_gradient(self) -> dict[str, float]:
        """Bytes at the peak of the process, in all and beyond the imports, of one meta-gradient, and its seconds."""
        seconds = self._timed(lambda: self.contestant.meta_gradient(self.tasks), 1)
        return {"peak": resident.peak(), "net": resident.peak() - self.baseline, "seconds": seconds}

    def meta_gradient(self, dtype: str, tasks: int, path: str) -> None:
        """Write the meta-gradient of the first ``tasks`` tasks at the starting weights, computed in the way that is timed."""
        self._at_start(getattr(torch, dtype), lambda: self._save_gradient(getattr(torch, dtype), tasks, path))

    def answers(self, dtype: str, tasks: int, path: str) -> None:
        """Write the predictions for the queries of the first ``tasks`` tasks from the starting weights."""
        few = self._few(getattr(torch, dtype), tasks)
        self._at_start(
            getattr(torch, dtype), lambda: torch.save({"answers": self.contestant.answers(few).detach().cpu()}, path)
        )

    def _few(self, dtype: torch.dtype, tasks: int) -> Batch:
        return convert({name: value[:tasks] for name, value in self.tasks.items()}, dtype)

    def _save_gradient(self, dtype: torch.dtype, tasks: int, path: str) -> None:
        self.optimizer.zero_grad()
        self.contestant.meta_gradient(self._few(dtype, tasks))
        gradients = {name: _gradient(value) for name, value in self.contestant.model.named_parameters()}
        self.optimizer.zero_grad()
        torch.save(gradients, path)

    def _at_start(self, dtype: torch.dtype, run: Callable[[], None]) -> None:
        now = [parameter.detach().clone() for parameter in self.contestant.parameters()]
        self.contestant.to(dtype)
        _copy(self.start, self.contestant.parameters())
        run()
        self.contestant.to(torch.float32)
        _copy(now, self.contestant.parameters())

    def profile(self) -> dict[str, Any]:
        """Shares of one outer step's time by kind of operation, with tasks run in a loop; for metaloop only."""
        from harness.profile import by_kind

        looped = Session(self.contestant.looped(), self.tasks, 0)  # type: ignore[attr-defined]
        looped.outer_steps(1)
        return by_kind(looped._outer_step)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter).cpu() if parameter.grad is None else parameter.grad.detach().cpu()


def _copy(values: list[Tensor], parameters: list[Any]) -> None:
    with torch.no_grad():
        for value, parameter in zip(values, parameters, strict=True):
            parameter.copy_(value)


def main() -> None:
    """Serve requests until the driver closes the pipe; output of libraries goes to the standard error stream."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    kind, name, *arguments = sys.argv[1:]
    session: Any = SamplingSession(name, Path(arguments[0])) if kind == "sampler" else Session(*make(name, arguments))
    out.write(json.dumps("ready") + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        out.write(json.dumps(getattr(session, request.pop("do"))(**request)) + "\n")


if __name__ == "__main__":
    main()
