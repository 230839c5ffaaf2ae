"""Runs as tasks of Ray: what is asked of Ray, and what follows from each end of a task, with a stand-in for Ray."""

import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.records.jobs import DONE, FAILED, INTERRUPTED, LOG, RUNNING, WAITING, Job
from metaloop.sweeps.launch.devices import Machine, Needs
from metaloop.sweeps.launch.ray_tasks import RayTasks, connected, run_task
from metaloop.sweeps.launch.schedule import run_all
from metaloop.sweeps.ledger import Ledger, Planned
from small_runs import SMALL_CONF

MACHINE = Machine((), per_gpu=2, cores=4, threads=2)
CPU_RUN = Needs(0)


class RayError(Exception):
    """As in ray.exceptions."""


class RayTaskError(RayError):
    """An exception of the task's own function."""


class WorkerCrashedError(RayError):
    """The process of the task has gone."""


class FakeRay:
    """The part of Ray's interface that tasks use. A task ends when it is waited for, as ``ends`` says.

    Attributes:
        options, asked, cancelled: what was asked of Ray, in order.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, ends: Callable[[str, int], object]) -> None:
        self.ends, self.tries = ends, Counter[str]()
        self.options: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.cancelled: list[tuple[str, bool]] = []
        self.results: dict[str, object] = {}
        self.at_once = 0

    def remote(self, **options: Any) -> Callable[[object], object]:
        self.options.append(options)
        return lambda function: SimpleNamespace(options=self._asked)

    def _asked(self, **resources: Any) -> object:
        self.asked.append(resources)

        def submit(sweep: str, stale: float, key: str, *rest: object) -> str:
            self.tries[key] += 1
            task = f"{key}:{self.tries[key]}"
            self.results[task] = None
            self.at_once = max(self.at_once, sum(result is None for result in self.results.values()))
            return task

        return SimpleNamespace(remote=submit)

    def wait(self, tasks: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        for task in tasks[:num_returns]:
            key, number = task.split(":")
            self.results[task] = self.ends(key, int(number))
        ended = [task for task in tasks if self.results[task] is not None]
        return ended, [task for task in tasks if task not in ended]

    def get(self, task: str) -> object:
        result = self.results[task]
        if isinstance(result, Exception):
            raise result
        return result

    def cancel(self, task: str, force: bool = False) -> None:
        self.cancelled.append((task, force))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}, {"Alive": False, "Resources": {"CPU": 99.0}}]

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": 1.0}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "sweep")
    ledger.enter([Planned(key, (), {}, f"run-{key}") for key in ("a", "b", "c")])
    return ledger


def scheduled(ledger: Ledger, ray: FakeRay, retries: int = 2, at_once: int | None = None) -> list[Job]:
    needs = {job.key: CPU_RUN for job in ledger.jobs()}
    run_all(ledger, lambda _: needs, RayTasks(ray, ledger, MACHINE, at_once, retries), retries, lambda job: None)
    return ledger.jobs()


def done(ledger: Ledger, key: str) -> int:
    owner = ledger.claim(key, "cpu", 9)
    if owner is not None:
        ledger.end(key, owner, DONE)
    return 0


def on_another_machine(ledger: Ledger, key: str) -> None:
    """Claim a run as a worker does that is lost then, on a machine whose processes this one cannot see."""
    assert ledger.claim(key, "cpu", 9)
    database = sqlite3.connect(ledger.path)
    database.execute("UPDATE jobs SET host = 'elsewhere', pid = 1 WHERE key = ?", (key,))
    database.commit()
    database.close()


def test_a_lost_worker_is_a_failure_that_is_tried_again(ledger: Ledger) -> None:
    def ends(key: str, number: int) -> object:
        if key == "b" and number <= 2:
            on_another_machine(ledger, key)
            return WorkerCrashedError("The worker died.\n")
        return done(ledger, key)

    jobs = scheduled(ledger, FakeRay(ends))
    assert [(job.state, job.attempts, job.failures) for job in jobs] == [(DONE, 1, 0), (DONE, 3, 2), (DONE, 1, 0)]


def test_a_run_whose_workers_are_always_lost_is_given_up(ledger: Ledger) -> None:
    def ends(key: str, number: int) -> object:
        if key == "b":
            on_another_machine(ledger, key)
            return WorkerCrashedError("The worker died.\n")
        return done(ledger, key)

    ray = FakeRay(ends)
    bad = scheduled(ledger, ray, retries=1)[1]
    assert (bad.state, bad.attempts, bad.failures) == (FAILED, 2, 2)
    assert bad.error == "the worker of Ray was lost: The worker died."
    assert ray.tries == {"a": 1, "b": 2, "c": 1}


def test_a_worker_that_is_lost_before_its_run_begins_does_not_come_back_for_ever(ledger: Ledger) -> None:
    with pytest.raises(UserError, match="lost before it began, 2 times"):
        scheduled(ledger, FakeRay(lambda key, number: WorkerCrashedError("no memory")), retries=1)


def test_a_task_that_cannot_begin_ends_the_sweep_and_says_why(ledger: Ledger) -> None:
    ray = FakeRay(lambda key, number: RayTaskError("Traceback\n  ...\nModuleNotFoundError: No module named 'metaloop'\n"))
    with pytest.raises(UserError, match="run-a could not begin: ModuleNotFoundError: No module named 'metaloop'"):
        scheduled(ledger, ray)


def test_one_task_a_run_with_its_processors_and_its_share_of_a_gpu(ledger: Ledger) -> None:
    ray = FakeRay(lambda key, number: done(ledger, key))
    tasks = RayTasks(ray, ledger, MACHINE, None, 0)
    assert ray.options == [{"max_retries": 0, "max_calls": 1}]
    for job, needs in zip(ledger.jobs(), (Needs(0, 3), Needs(1), Needs(4)), strict=True):
        assert tasks.start(job, needs)
    assert ray.asked == [
        {"num_cpus": 6, "num_gpus": 0, "name": "run-a"},
        {"num_cpus": 2, "num_gpus": 0.5, "name": "run-b"},
        {"num_cpus": 8, "num_gpus": 4, "name": "run-c"},
    ]
    with pytest.raises(UserError, match=r"trainer\.devices"):
        tasks.capacity(Needs(-1))


def test_a_run_that_no_machine_has_room_for_waits_and_says_so(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = RayTasks(FakeRay(lambda key, number: 0), ledger, MACHINE, None, 0)
    assert tasks.capacity(CPU_RUN) == 2
    assert capsys.readouterr().out == ""
    assert [tasks.capacity(Needs(2)) for _ in range(2)] == [0, 0]
    assert capsys.readouterr().out.count("needs 4 CPU, 2 GPU, which no machine of the cluster has") == 1


def test_a_limit_of_runs_at_once(ledger: Ledger) -> None:
    ray = FakeRay(lambda key, number: done(ledger, key))
    assert {job.state for job in scheduled(ledger, ray, at_once=1)} == {DONE}
    assert ray.at_once == 1


def test_an_interrupt_ends_the_tasks_and_their_runs_can_be_resumed(ledger: Ledger) -> None:
    def ends(key: str, number: int) -> object:
        if key == "a":  # the first that is waited for; the stop waits for it again, and it does not end
            if ledger.job(key).state == WAITING:
                on_another_machine(ledger, key)
                raise KeyboardInterrupt
            return None
        return done(ledger, key)

    ray = FakeRay(ends)
    with pytest.raises(KeyboardInterrupt):
        scheduled(ledger, ray)
    assert ray.cancelled == [("a:1", False), ("b:1", False), ("c:1", False), ("a:1", True)]
    assert [job.state for job in ledger.jobs()] == [INTERRUPTED, DONE, DONE]


def test_the_loss_of_an_attempt_touches_no_later_one(ledger: Ledger) -> None:
    for _ in range(2):
        owner = ledger.claim("a", "cpu", 9)
        assert owner
        ledger.lose("a", 1, FAILED, "lost")
    assert (ledger.job("a").state, ledger.job("a").attempts, ledger.job("a").failures) == (RUNNING, 2, 1)


def test_a_machine_without_the_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs storage that all machines share"):
        run_task(str(tmp_path / "nowhere"), 60, "a", 1, 0, str(tmp_path), {})


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'metaloop\[ray\]'"), connected():
        pass


def test_a_cluster_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        assert options["runtime_env"] == {"env_vars": {"PYTHONPATH": str(Path("lib").resolve())}}
        raise ConnectionError("Could not find\nany running Ray instance")

    monkeypatch.setitem(__import__("sys").modules, "ray", SimpleNamespace(init=init))
    monkeypatch.setenv("RAY_ADDRESS", "there:6379")
    monkeypatch.setenv("PYTHONPATH", f"lib{os.pathsep}")
    with pytest.raises(UserError, match=r"RAY_ADDRESS=there:6379.*Could not find any running"), connected():
        pass


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["launcher=slurm"], "launcher=slurm: must be one of local, ray"),
        (["launcher=ray", "hydra/launcher=joblib"], "two launchers"),
        (["launcher=ray", "--gpus", "0"], "--gpus"),
        (["hydra/launcher=ray"], "launcher=ray needs Ray alone"),
    ],
)
def test_a_launcher_that_cannot_be(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "small", "--config-dir", str(SMALL_CONF), *words]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.rglob(LOG))


def test_a_dry_run_promises_no_time_on_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "small", "--config-dir", str(SMALL_CONF), "launcher=ray", "--dry-run"]) == 0
    assert "4 runs, 4 to run: the time depends on the cluster" in capsys.readouterr().out
