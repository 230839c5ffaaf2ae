"""Which runs fit a machine at once."""

import pytest

from metaloop.errors import UserError
from metaloop.sweeps.launch import devices as module
from metaloop.sweeps.launch.devices import FreeDevices, Machine, Needs, visible_gpus

FOUR = Machine(gpus=("0", "1", "2", "3"), per_gpu=2, cores=3, threads=1)


def test_gpus_fill_evenly_and_are_given_back() -> None:
    devices = FreeDevices(FOUR)
    assert [devices.acquire(Needs(1)) for _ in range(4)] == [("0",), ("1",), ("2",), ("3",)]
    assert devices.acquire(Needs(2)) == ("0", "1")
    assert devices.acquire(Needs(-1)) is None
    assert devices.acquire(Needs(2)) == ("2", "3")
    assert devices.acquire(Needs(1)) is None
    devices.release(("0", "1"))
    assert devices.acquire(Needs(1)) == ("0",)


def test_a_run_on_several_gpus_waits_for_as_many() -> None:
    devices = FreeDevices(Machine(("a", "b"), 1, 1, 1))
    assert devices.acquire(Needs(1)) == ("a",)
    assert devices.acquire(Needs(-1)) is None
    devices.release(("a",))
    assert devices.acquire(Needs(-1)) == ("a", "b")


def test_ranks_on_the_cpu_take_a_core_each_and_never_wait_for_ever() -> None:
    devices = FreeDevices(FOUR)
    assert devices.acquire(Needs(0, 2)) == ("cpu", "cpu")
    assert devices.acquire(Needs(0, 2)) is None
    assert devices.acquire(Needs(0)) == ("cpu",)
    devices.release(("cpu", "cpu"))
    devices.release(("cpu",))
    assert devices.acquire(Needs(0, 8)) == ("cpu",) * 3


@pytest.mark.parametrize("gpus", [1, -1])
def test_a_gpu_that_is_not_there_is_refused(gpus: int) -> None:
    with pytest.raises(UserError, match="needs 1 GPUs, but there are 0"):
        FreeDevices(Machine((), 1, 2, 1)).acquire(Needs(gpus))


def test_needs_are_what_the_trainer_says() -> None:
    assert Needs.of({"trainer": {"accelerator": "cpu", "devices": 2}}) == Needs(0, 2)
    assert Needs.of({"trainer": {"accelerator": "gpu", "devices": -1}}) == Needs(-1)
    assert Needs.of({"trainer": {"accelerator": "cuda", "devices": [0, 3]}}) == Needs(2)
    assert Needs.of({"trainer": {"accelerator": "gpu", "devices": "auto"}}) == Needs(-1)


def test_the_machine_is_found_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert Machine.detect(None, 1, None, None) == Machine(("1", "3"), 1, 8, 1)
    assert Machine.detect(["0"], 2, 3, None) == Machine(("0",), 2, 3, 2)
    assert Machine.detect([], 1, None, 4) == Machine((), 1, 2, 4)
    with pytest.raises(UserError, match="--jobs 0"):
        Machine.detect(None, 1, 0, None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    assert visible_gpus() == []
