"""Run directories, kept models and sweeps from a stranger: nothing of them is executed, and nothing is written outside."""

import json
import os
import pickle
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.cli.main import main
from metaloop.config.targets.allowed import ENVIRONMENT
from metaloop.errors import UserError
from metaloop.evaluation.adapted_model import load_model
from metaloop.evaluation.finished_run import load_run
from metaloop.sweeps.ledger import Ledger
from small_runs import QUIET

SHORT = (
    "name=small", "dataset=tabular", "model=mlp", "model.hidden=[8]", "model.norm=none", "algorithm/over_tasks=loop",
    "episode=2w5s", "episode.shots=2", "episode.queries=2", "outer.meta_batch=2", "trainer.max_steps=2", "validation.every=2",
    "validation.episodes=2", "evaluation.episodes=3",
)  # fmt: skip
TABLE = "label,a,b\n0,1.0,2.0\n0,1.1,2.1\n1,3.0,0.5\n1,3.1,0.4\n"
NODE = dict[str, Any]
Captured = pytest.CaptureFixture[str]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self.path),)


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of metaloop's own parts, ``run``, and a model kept from it, ``kept``; look, but change nothing."""
    place = tmp_path_factory.mktemp("received")
    (place / "table.csv").write_text(TABLE)
    assert main(["train", *SHORT, *QUIET, f"hydra.run.dir={place / 'run'}"]) == 0
    assert main(["predict", f"run={place / 'run'}", f"support={place / 'table.csv'}", f"save={place / 'kept'}"]) == 0
    return place


@pytest.fixture
def desk(tmp_path: Path, received: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's desk: the working folder with a copy of what was received. Nothing may appear in ``outside`` beside it."""
    shutil.copytree(received, tmp_path / "desk")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("precious")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    yield tmp_path / "desk"
    left = sorted(path.name for path in (tmp_path / "outside").iterdir())
    assert left in (["precious"], ["loaded.pt", "precious"]), "a stranger's file wrote outside"
    assert (tmp_path / "outside" / "precious").read_text() == "precious"


def commands(run: str = "run", model: str = "kept") -> dict[str, list[str]]:
    """Every command that builds a run, or reads one."""
    return {
        "evaluate": ["evaluate", f"run={run}"],
        "predict run": ["predict", f"run={run}", "support=table.csv", "query=table.csv"],
        "predict model": ["predict", f"model={model}", "query=table.csv"],
        "inspect": ["inspect", run, "--episodes", "2"],
        "compare": ["compare", run, run],
        "resume": ["train", f"resume={run}"],
    }


def refused(words: Sequence[str], capsys: Captured) -> str:
    """Message of a command that refuses as the user's error."""
    capsys.readouterr()
    code = main(list(words))
    captured = capsys.readouterr()
    assert code == 2, (words, code, captured)
    assert "Traceback" not in captured.err
    assert "fault of metaloop" not in captured.err
    assert "\x1b" not in captured.out + captured.err
    return captured.err


def changed(path: Path, change: Callable[[NODE], object]) -> None:
    """Change the config in one of the JSON files of a run or a kept model."""
    content = json.loads(path.read_text())
    change(content["config"])
    path.write_text(json.dumps(content))


def everywhere(change: Callable[[NODE], object], finished: bool = True) -> None:
    """Change the config in all files of the run and of the kept model."""
    for path in ("run/run.json", "run/record.json", "kept/model.json"):
        changed(Path(path), change)
    if not finished:
        Path("run/record.json").unlink()


def payloads(outside: Path) -> dict[str, NODE]:
    """Targets that would write into ``outside``."""
    target, bomb = str(outside / "written"), str(outside / "loaded.pt")
    return {
        "torch.load": {"f": bomb, "weights_only": False},
        "numpy.load": {"file": bomb, "allow_pickle": True},
        "joblib.load": {"filename": bomb},
        "pandas.read_pickle": {"filepath_or_buffer": bomb},
        "shutil.copyfile": {"src": str(outside / "precious"), "dst": target},
        "os.makedirs": {"name": target},
        "builtins.open": {"file": target, "mode": "w"},
        "os.system": {"command": f"touch {target}"},
        "subprocess.run": {"args": ["touch", target]},
        "metaloop.system.files.write_atomically": {"path": {"_target_": "pathlib.Path", "_args_": [target]}, "content": "x"},
        "metaloop.system.files.os.makedirs": {"name": target},
        "metaloop.cli.main.main": {"argv": ["report", "run", "--output", target]},
        "evil.Anything": {},
        "functools.partial": {"_args_": [{"_target_": "hydra.utils.get_method", "path": "os.makedirs"}, target]},
    }


PLACES: dict[str, Callable[[NODE, NODE], object]] = {
    "dataset": lambda config, node: config.update(dataset=node),
    "dataset.problem": lambda config, node: config["dataset"].update(problem=node),
    "model": lambda config, node: config.update(model=node),
    "model.hidden": lambda config, node: config["model"].update(hidden=[8, [node]]),
    "algorithm": lambda config, node: config.update(algorithm=node),
    "algorithm.rule": lambda config, node: config["algorithm"].update(rule={**node, "_partial_": True}),
    "outer.optimizer": lambda config, node: config["outer"].update(optimizer=node),
    "trainer": lambda config, node: config.update(trainer=node),
    "trainer.callbacks": lambda config, node: config["trainer"].update(callbacks=[node]),
    "logger": lambda config, node: config.update(logger={"mine": node}),
    "unused": lambda config, node: config.update(note={"deep": [{"deeper": node}]}),
}


@pytest.fixture
def armed(desk: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NODE]:
    """Payloads that work: a pickle outside, and a module on the path that writes when it is imported."""
    outside = desk.parent / "outside"
    (outside / "loaded.pt").write_bytes(pickle.dumps(Bomb(outside / "written")))
    (desk / "evil.py").write_text(f"import os\nos.makedirs({str(outside / 'written')!r})\nclass Anything: pass\n")
    monkeypatch.syspath_prepend(desk)
    return {name: {"_target_": name, **arguments} for name, arguments in payloads(outside).items()}


def test_the_payloads_would_work(armed: dict[str, NODE]) -> None:
    """What follows proves something: called, they write outside."""
    written = Path("../outside/written")
    with Path("../outside/loaded.pt").open("rb") as file:
        pickle.load(file)
    written.rmdir()
    __import__("evil")
    written.rmdir()
    sys.modules.pop("evil")


def test_E1_no_command_calls_what_a_config_names(armed: dict[str, NODE], capsys: Captured) -> None:
    for target, node in armed.items():
        everywhere(lambda config, node=node: config.update(dataset=node))
        for name, words in commands().items():
            if name == "resume":
                Path("run/record.json").rename("record.json")
            message = refused(words, capsys)
            if name == "resume":
                Path("record.json").rename("run/record.json")
            file = "model.json" if name == "predict model" else "record.json" if name == "compare" else "run.json"
            assert target in message, name
            assert file in message, name
            assert f"trust={target.partition('.')[0]}" in message, name
    assert "evil" not in sys.modules


@pytest.mark.parametrize("place", PLACES)
def test_E1_wherever_in_the_config_it_stands(place: str, armed: dict[str, NODE], capsys: Captured) -> None:
    original = Path("run/run.json").read_text()
    for node in (armed["os.makedirs"], armed["evil.Anything"]):
        Path("run/run.json").write_text(original)
        changed(Path("run/run.json"), lambda config, node=node: PLACES[place](config, node))
        for words in (commands()["evaluate"], commands()["inspect"]):
            message = refused(words, capsys)
            assert node["_target_"] in message
            assert place.partition(".")[0] in message or place == "unused"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda config: config["dataset"].update(data_dir="${oc.env:HOME}"), "${oc.env:HOME}"),
        (lambda config: config.update(name="${now:%Y}"), "${now:%Y}"),
        (lambda config: config["dataset"].update(_target_="${name}"), "dataset._target_='${name}'"),
        (lambda config: config["dataset"].update(_target_=["os.system"]), "dataset._target_=['os.system']"),
        (lambda config: config["dataset"].update(cache_dir="../outside"), "dataset.cache_dir='../outside'"),
        (lambda config: config["trainer"].update(profiler="pytorch"), "trainer.profiler='pytorch'"),
        (lambda config: config["trainer"].update(default_root_dir="../outside"), "trainer.default_root_dir"),
        (lambda config: config.pop("trainer"), "config.trainer is None"),
        (lambda config: config.update(dataset=None), "config.dataset is None"),
        (lambda config: config.update(seed=True), "config.seed is True"),
        (lambda config: config.update(episode={}), "config.episode.queries is None"),
        (lambda config: config.update(tf32="yes"), "config.tf32 is 'yes'"),
    ],
)
def test_E1_other_ways_to_act_are_refused(change: Callable[[NODE], object], named: str, desk: Path, capsys: Captured) -> None:
    everywhere(change)
    for name in ("evaluate", "predict model", "inspect"):
        assert named in refused(commands()[name], capsys), name


def test_E1_a_class_of_another_kind_is_not_called(desk: Path, capsys: Captured) -> None:
    everywhere(lambda config: config.update(dataset={"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}))
    for name in ("evaluate", "predict run", "inspect"):
        assert "must be a metaloop.data.distribution.Dataset" in refused(commands()[name], capsys)


def test_E1_a_report_reads_and_calls_nothing(armed: dict[str, NODE], capsys: Captured) -> None:
    everywhere(lambda config: config.update(dataset=armed["os.makedirs"], model=armed["evil.Anything"]))
    assert main(["report", "run", "--output", "page"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_E1_settings_of_a_kept_encoder_are_checked_too(armed: dict[str, NODE], capsys: Captured) -> None:
    (Path("kept") / "encoder").mkdir()
    Path("kept/encoder/config.json").write_text(json.dumps({"model_type": "bert", "x": armed["os.makedirs"]}))
    message = refused(commands()["predict model"], capsys)
    assert "kept/encoder/config.json" in message
    assert "os.makedirs" in message


def test_E1_checkpoints_with_objects_are_not_loaded(armed: dict[str, NODE], capsys: Captured) -> None:
    bomb = Bomb(Path("../outside/written"))
    for path in ("run/checkpoints/best.ckpt", "run/checkpoints/last.ckpt", "kept/adapted.pt"):
        torch.save({"state_dict": bomb, "metaloop": bomb}, path)
    for name in ("evaluate", "predict run", "predict model", "inspect"):
        assert "not a readable checkpoint" in refused(commands()[name], capsys), name
    Path("run/record.json").unlink()
    assert "not a readable checkpoint" in refused(commands()["resume"], capsys)


LAB = """
from pathlib import Path
from metaloop.models.mlp import MLP
import os
Path("imported").touch()
class Net(MLP):
    pass
"""


@pytest.fixture
def lab(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of the user's own, and a run of its class that came from elsewhere."""
    (desk / "somelab.py").write_text(LAB)
    monkeypatch.syspath_prepend(desk)
    everywhere(lambda config: config["model"].update(_target_="somelab.Net"))
    fingerprint = json.loads(Path("run/run.json").read_text())["fingerprint"]
    assert fingerprint  # the checkpoint belongs to it
    yield "somelab"
    sys.modules.pop("somelab", None)


def test_E1_a_package_that_is_trusted_is_used(lab: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    evaluate = commands()["evaluate"]
    assert "model._target_='somelab.Net'" in refused(evaluate, capsys)
    assert not Path("imported").exists()
    assert "trust=some-lab: must be the name of a package" in refused([*evaluate, "trust=some-lab"], capsys)
    refused([*evaluate, "trust=some,torch"], capsys)
    with pytest.raises(UserError, match="somelab"):
        load_run("run")
    assert load_run("run", trust=["somelab"]).config["model"]["_target_"] == "somelab.Net"
    load_model("kept", trust=["somelab"])
    assert main([*evaluate, "trust=somelab"]) == 0
    assert ENVIRONMENT not in os.environ
    refused(evaluate, capsys)
    monkeypatch.setenv(ENVIRONMENT, "other, somelab")
    assert load_run("run").directory == Path("run")
    everywhere(lambda config: config["model"].update(_target_="somelab.os.makedirs", name="../outside/written"))
    assert "somelab.os.makedirs" in refused(evaluate, capsys)  # it is not the package's own


def test_E1_an_installed_package_can_declare_itself(lab: str, desk: Path, capsys: Captured) -> None:
    info = desk / "somelab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somelab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[metaloop.trusted]\nsomelab = somelab\n")
    assert load_run("run").directory == Path("run")
    (info / "entry_points.txt").write_text("[metaloop.trusted]\nother = other\n")
    assert "somelab.Net" in refused(commands()["inspect"], capsys)


def test_E1_runs_of_ones_own_need_no_ceremony(lab: str, desk: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", *SHORT, *QUIET, "model._target_=somelab.Net", "hydra.run.dir=own"]) == 0
    own = commands("own", "mine")
    assert main([*own["predict run"], "save=mine"]) == 0
    assert main(own["predict model"]) == 0
    changed(Path("own/run.json"), lambda config: config["model"].update(hidden=[9]))  # no longer what was composed
    assert "somelab.Net" in refused(own["evaluate"], capsys)
    monkeypatch.setenv("XDG_STATE_HOME", str(desk / "another_machine"))
    assert "somelab.Net" in refused(own["predict model"], capsys)


@pytest.mark.slow
def test_E1_all_commands_take_runs_of_ones_own(lab: str) -> None:
    assert main(["train", *SHORT, *QUIET, "model._target_=somelab.Net", "hydra.run.dir=own"]) == 0
    own = commands("own")
    assert main([*own["evaluate"], "episode.shots=1"]) == 0
    (later,) = Path("own/evaluations").iterdir()
    assert main(["compare", str(later), "own"]) == 2  # other episodes, which is said
    assert main(["compare", str(later), str(later)]) == 0
    assert main(own["inspect"]) == 0
    shutil.rmtree(Path("own/checkpoints"))
    Path("own/record.json").unlink()
    assert main(own["resume"]) == 0


def test_E11_nothing_is_written_through_links(desk: Path, capsys: Captured) -> None:
    for link in (".lock", "evaluations", "inspection", "predictions", "report", "train.log", "wandb"):
        path = Path("run", link)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(desk.parent / "outside" / ("precious" if "." in link else ""))
        for name in ("evaluate", "predict run", "inspect"):
            assert f"run/{link} is a link" in refused(commands()[name], capsys), name
        Path("run/record.json").rename("record.json")
        assert f"run/{link} is a link" in refused(commands()["resume"], capsys)
        Path("record.json").rename("run/record.json")
        path.unlink()
    Path("kept/predictions").symlink_to(desk.parent / "outside")
    assert "predictions is a link" in refused(commands()["predict model"], capsys)
    Path("locked").mkdir()
    Path("locked/.lock").symlink_to(desk.parent / "outside" / "precious")
    assert ".lock is a link" in refused(["train", *SHORT, *QUIET, "hydra.run.dir=locked"], capsys)


def test_E11_pipes_are_not_waited_for(desk: Path, capsys: Captured) -> None:
    os.mkfifo("run/train.log")
    assert "neither a file nor a folder" in refused(commands()["evaluate"], capsys)
    Path("run/record.json").unlink()
    os.mkfifo("run/record.json")
    assert main(["report", "run", "--output", "page"]) == 2
    assert "run" in capsys.readouterr().err


SWEEP = ["sweep", "few", "--config-dir", "conf", "--jobs", "1"]
OVERRIDES = {key: int(value) if value.isdecimal() else value for key, value in (word.split("=", 1) for word in SHORT)}
PLAN = json.dumps({"overrides": OVERRIDES, "axes": {"algorithm": ["maml"]}, "seeds": 1})


@pytest.fixture
def swept(desk: Path) -> Ledger:
    """The ledger of a sweep whose only run waits, as a stranger hands it over."""
    (desk / "conf" / "sweep").mkdir(parents=True)
    (desk / "conf" / "sweep" / "few.yaml").write_text(PLAN)
    from metaloop.sweeps.compose import compose_runs
    from metaloop.sweeps.plan import read_plan

    ledger = Ledger(desk / "outputs" / "sweeps" / "few")
    ledger.enter(compose_runs(read_plan("few", ["conf"]), ["conf"]))
    return ledger


def edit(ledger: Ledger, **values: object) -> None:
    database = sqlite3.connect(ledger.path)
    for name, value in values.items():
        database.execute(f"UPDATE jobs SET {name} = ?", (value,))
    database.commit()
    database.close()


def test_E11_runs_of_a_ledger_stay_inside(swept: Ledger, capsys: Captured) -> None:
    for directory in ("../../escaped", "/tmp/escaped", ".", "a/../../../../../outside/x", "link/x"):
        (swept.directory / "link").unlink(missing_ok=True)
        (swept.directory / "link").symlink_to("../../../../outside")
        edit(swept, directory=directory)
        for words in (["sweep", "status", "few"], ["sweep", "show", "few"], ["sweep", "retry", "few"]):
            assert repr(directory) in refused(words, capsys)
    assert repr(directory) in refused(SWEEP, capsys)
    assert not Path("outputs/escaped").exists()


def test_E1_a_ledger_starts_only_what_the_sweep_composed(swept: Ledger, armed: dict[str, NODE], capsys: Captured) -> None:
    (job,) = swept.jobs()
    identity = json.loads(sqlite3.connect(swept.path).execute("SELECT description FROM jobs").fetchone()[0])
    identity["config"]["dataset"] = armed["os.makedirs"]
    edit(swept, description=json.dumps(identity))
    with pytest.raises(UserError, match="holds another config for the run"):
        swept.identity(job.key)
    for broken in ("[" * 100_000, "{}", "5", "not JSON"):
        edit(swept, description=broken)
        with pytest.raises(UserError, match="ledger"):
            swept.identity(job.key)


@pytest.mark.slow
def test_E1_a_sweep_with_a_changed_ledger_fails(swept: Ledger, armed: dict[str, NODE], capsys: Captured) -> None:
    identity = json.loads(sqlite3.connect(swept.path).execute("SELECT description FROM jobs").fetchone()[0])
    identity["config"]["dataset"] = armed["os.makedirs"]
    edit(swept, description=json.dumps(identity))
    assert main(SWEEP) == 1
    (job,) = swept.jobs()
    assert "holds another config" in str(job.error)
    assert job.directory in capsys.readouterr().out


def test_E11_control_sequences_are_shown_and_not_obeyed(swept: Ledger, capsys: Captured) -> None:
    edit(swept, state="failed", error="\x1b]0;title\x07\x1b[2J<b>bold</b>", overrides=json.dumps(["a=$(touch written)\x1b[2J"]))
    for words in (["sweep", "status", "few"], ["sweep", "show", "few"], ["sweep", "status"]):
        assert main(words) == 0
        assert "\x1b" not in capsys.readouterr().out
    assert main(["report", "run", "outputs", "--output", "page"]) == 0
    printed, page = capsys.readouterr().out, Path("page/index.html").read_text()
    assert "\x1b" not in printed + page
    assert r"\x1b[2J" in printed
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold" in page


def test_E11_a_ledger_that_is_a_link_is_not_used(swept: Ledger, capsys: Captured) -> None:
    (swept.directory.parents[3] / "outside" / "empty").touch()
    swept.path.unlink()
    swept.path.symlink_to(swept.directory.parents[3] / "outside" / "empty")
    for words in (SWEEP, ["sweep", "status", "few"]):
        assert "is a link" in refused(words, capsys)
    assert (swept.directory.parents[3] / "outside" / "empty").read_bytes() == b""
    (swept.directory.parents[3] / "outside" / "empty").unlink()
