"""Which runs of a sweep are computed together; tests/slow/test_packs_under_kills.py compares them with runs by themselves."""

from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.sweeps.compose import split_pack
from metaloop.sweeps.launch.devices import CPU, Machine
from metaloop.sweeps.launch.packs import Pack, Packs, check_mode, kinds_of
from metaloop.sweeps.plan import Plan
from metaloop.training.packs.messages import Verdict
from small_runs import SMALL, SMALL_CONF

TRAINER = {"accelerator": "cpu", "devices": 1, "max_steps": 9}


def config(seed: int, **more: Any) -> dict[str, Any]:
    return {"seed": seed, "trainer": TRAINER, "stretches": "auto", "workers": 0, "rate": 0.1, "width": 4, **more}


class _Process:
    def __init__(self, **named: Any) -> None:
        self.alive = True

    def start(self) -> None:
        pass

    def join(self, seconds: float | None = None) -> None:
        self.alive = False

    def is_alive(self) -> bool:
        return self.alive


class _Context:
    """Makes processes that do nothing; holds the other ends of their pipes."""

    Process = _Process

    def __init__(self) -> None:
        self.theirs: list[Connection] = []

    def Pipe(self) -> tuple[Connection, Connection]:
        mine, theirs = Pipe()
        self.theirs.append(_Kept(theirs))  # type: ignore[arg-type]
        return mine, self.theirs[-1]


class _Kept:
    """A connection that is closed by the test and by nobody else, as if another process held it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        pass


@pytest.fixture
def context() -> Iterator[_Context]:
    made = _Context()
    yield made
    for each in made.theirs:
        each.connection.close()  # type: ignore[attr-defined]


def begun(packs: Packs, waiting: list[str]) -> Pack:
    pack = packs.begin(waiting[0], waiting, (CPU,))
    assert pack is not None
    return pack


def test_runs_of_a_kind_differ_in_seeds_and_rates_alone() -> None:
    configs = {
        "a": config(0), "b": config(1), "c": config(1, rate=0.2), "wide": config(0, width=5), "wider": config(1, width=5),
        "only": config(0, width=6), "plain": config(0, stretches=False), "plain too": config(1, stretches=False),
        "workers": config(0, workers=2), "workers too": config(1, workers=2),
        "ranks": config(0, trainer={**TRAINER, "devices": 2}), "gpu": config(0, trainer={**TRAINER, "accelerator": "gpu"}),
    }  # fmt: skip
    kinds = kinds_of(configs)
    assert set(kinds) == {"a", "b", "c", "wide", "wider"}
    assert kinds["a"] == kinds["b"] == kinds["c"] != kinds["wide"]


def test_a_trial_that_pays_fills_the_pack_and_tells_whom_to_wait_for(
    context: _Context, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"run {number}" for number in range(10)]
    packs = Packs("auto", dict.fromkeys(keys, "kind"), Machine((), 1, 2, 1), context)
    pack = begun(packs, keys)
    assert packs.join("run 1") is None  # not before the trial
    server = context.theirs[0].connection  # type: ignore[attr-defined]
    server.send(Verdict(5, "it pays"))
    packs.look()
    assert "packed              up to 5 runs at a time: it pays" in capsys.readouterr().out
    assert [packs.join(key) for key in keys[1:6]] == [pack] * 4 + [None]
    packs.settle()
    assert server.recv() == 5
    assert packs.leave("run 3") == ()
    assert server.recv() == 4
    assert packs.join("run 6") is pack  # a seat is free again
    assert packs.leave("a run by itself") is None
    for key in ("run 0", "run 1", "run 2", "run 6"):
        assert packs.leave(key) == ()
    assert packs.leave("run 4") == (CPU,)
    assert not pack.folder.exists()


def test_a_kind_that_refuses_is_not_tried_again(context: _Context, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["a", "b", "c"]
    packs = Packs("auto", dict.fromkeys(keys, "kind"), Machine((), 1, 1, 1), context)
    begun(packs, keys)
    context.theirs[0].connection.send(Verdict(0, "it does not pay"))  # type: ignore[attr-defined]
    packs.look()
    assert "not packed          each run by itself: it does not pay" in capsys.readouterr().out
    assert packs.join("b") is None
    assert packs.begin("b", ["b", "c"], (CPU,)) is None
    packs.end()


def test_a_core_for_each_run_needs_no_pack(context: _Context) -> None:
    keys = ["a", "b"]
    packs = Packs("auto", dict.fromkeys(keys, "kind"), Machine((), 1, 2, 1), context)
    assert packs.begin("a", keys, (CPU,)) is None
    assert Packs("false", dict.fromkeys(keys, "kind"), Machine((), 1, 1, 1), context).begin("a", keys, (CPU,)) is None


def test_the_key_is_no_key_of_the_runs() -> None:
    plan, mode = split_pack(Plan("name", {"sweep.pack": "True", "algorithm": "maml"}))
    assert (plan.overrides, mode) == ({"algorithm": "maml"}, "true")
    assert split_pack(Plan("name"))[1] == "auto"
    with pytest.raises(UserError, match=r"sweep\.pack=maybe: auto .*, true or false"):
        check_mode("maybe")
    with pytest.raises(UserError, match="one value"):
        split_pack(Plan("name", axes={"sweep.pack": ("true", "false")}))


def test_a_sweep_says_why_its_runs_are_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "-m", "--config-dir", str(SMALL_CONF), *SMALL, "--jobs", "1", "seed=0,1", "hydra.sweep.dir=here"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "not packed          each run by itself: algorithm/over_tasks is loop" in shown
    assert "2 done" in shown
    assert main([*words, "sweep.pack=perhaps"]) == 2
    assert main([*words, "sweep.pack=true", "launcher=ray"]) == 2
    assert "sweep.pack=true: runs are computed together on this machine" in capsys.readouterr().err
    assert main([*words, "sweep.pack=false"]) == 0
    assert "2 done already" in capsys.readouterr().out
