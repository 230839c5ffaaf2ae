"""Overrides are checked before Hydra runs, and a mistyped one is answered with the nearest valid name."""

from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from metaloop.config.overrides import check_overrides
from metaloop.errors import UserError

FILES = {
    "train.yaml": """
defaults:
  - _self_
  - algorithm: maml
  - model: conv4
  - experiment: null
name: ${hydra:runtime.choices.algorithm}
seed: 0
resume: null
episode: {ways: 5, shots: [1, 5]}
trainer: {max_steps: 1000, lr: 0.1, deterministic: false, precision: 32-true, copy: "${trainer.max_steps}"}
""",
    "algorithm/maml.yaml": "defaults:\n  - rule: gradient_descent\n  - _self_\nsteps: 1\n",
    "algorithm/anil.yaml": "defaults:\n  - rule: gradient_descent\n  - _self_\nsteps: 1\n",
    "algorithm/prototypes.yaml": "distance: euclidean\n",
    "algorithm/rule/gradient_descent.yaml": "rate: 0.1\n",
    "algorithm/rule/adam.yaml": "rate: 0.001\nbeta: 0.9\n",
    "model/conv4.yaml": "filters: 64\n",
    "model/mlp.yaml": "hidden: [40, 40]\n",
    "experiment/good.yaml": "# @package _global_\ndefaults:\n  - override /algorithm: anil\nseed: 3\n",
    "experiment/broken.yaml": "# @package _global_\ndefaults:\n  - override /algorithm: mamll\n",
    "experiment/sweep.yaml": "# @package _global_\nhydra: {mode: MULTIRUN}\n",
    "extra/more.yaml": "a: 1\n",
}


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small configuration in place of ours."""
    folder = tmp_path / "conf"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr("metaloop.config.composition.conf_dir", lambda: folder)
    return folder


def refusal(*overrides: str, multirun: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        check_overrides("train", overrides, [], multirun=multirun)
    return str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["trainer.max_steps=3", "trainer.lr=1", "trainer.deterministic=true", "trainer.precision=16"],
        ["resume=auto"],
        ["resume=null"],
        ["algorithm=prototypes", "algorithm.distance=cosine"],
        ["algorithm/rule=adam", "algorithm.rule.beta=0.5"],
        ["episode.ways=[5,20]", "episode.shots=1"],
        ["trainer.max_steps=${seed}"],
        ["episode={ways:7}"],
        ["+trainer.new=1", "++trainer.max_steps=many", "~trainer.precision"],
        ["experiment=good"],
        ["+extra=more"],
        ["~model"],
        ["hydra.run.dir=elsewhere"],
        ["trainer.copy=5"],
        ["algorithm=maml,anil", "seed=range(1000000)", "trainer.lr=interval(0,1)", "model=glob(*)"],
        ["algorithm=choice(maml,anil)", "seed=shuffle(range(3))"],
    ],
)
def test_what_is_valid_passes(overrides: list[str]) -> None:
    check_overrides("train", overrides, [])


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "trainer.max_step=3",
            ["trainer.max_step=3", "did you mean trainer.max_steps?", "keys of trainer: max_steps, lr"],
        ),
        ("max_steps=3", ["did you mean trainer.max_steps?"]),
        ("rate=3", ["did you mean algorithm.rule.rate?"]),
        ("algorithm=mam", ["did you mean maml?", "options of algorithm: anil, maml, prototypes"]),
        ("algoritm=maml", ["no 'algoritm'", "did you mean algorithm?"]),
        ("algorithm/rul=adam", ["did you mean algorithm/rule"]),
        ("algorithm/rule=adan", ["algorithm/rule has no 'adan'", "did you mean adam?"]),
        ("algorithm.rule=adam", ["choose it with algorithm/rule=adam"]),
        ("trainer=3", ["trainer is a section", "max_steps"]),
        ("algorithm=maml,anil,prototype", ["algorithm=prototype", "did you mean prototypes?"]),
        ("model=glob(z*)", ["no value", "options of model: conv4, mlp"]),
        ("model=null", ["remove the group with ~model"]),
        ("extra=more", ["+extra=more"]),
        ("~trainer.precison", ["did you mean trainer.precision? keys of trainer"]),
        ("episode={way:7}", ["episode.way=7", "did you mean episode.ways?"]),
        ("hydra.run.di=x", ["did you mean hydra.run.dir?"]),
        ("+seed=3", ["seed"]),
        ("experiment=broken", ["mamll", "did you mean algorithm=maml?"]),
        ("train", ["write key=value"]),
        ("name=[1", ["cannot read the override"]),
    ],
)
def test_a_mistake_is_answered_with_what_is_near_and_allowed(override: str, parts: list[str]) -> None:
    message = refusal(override)
    for part in parts:
        assert part in message
    assert "?  " not in message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("trainer.max_steps=abc", ["trainer.max_steps='abc'", "expected a whole number", "default 1000"]),
        ("trainer.max_steps=1e3", ["did you mean trainer.max_steps=1000?"]),
        ("trainer.max_steps=1.5", ["expected a whole number"]),
        ("trainer.max_steps=true", ["expected a whole number"]),
        ("trainer.max_steps=null", ["trainer.max_steps=null"]),
        ("trainer.max_steps=10,many", ["trainer.max_steps='many'"]),
        ("trainer.lr=fast", ["expected a number"]),
        ("trainer.lr=false", ["expected a number"]),
        ("trainer.deterministic=1", ["expected true or false"]),
        ("episode.ways=[5,many]", ["'many'", "expected a whole number"]),
        ("episode={ways:many}", ["episode.ways='many'"]),
        ("trainer.copy=many", ["expected a whole number"]),
    ],
)
def test_a_value_of_another_type_is_refused(override: str, parts: list[str]) -> None:
    message = refusal(override)
    for part in parts:
        assert part in message


def test_a_key_must_exist_under_every_value_of_a_sweep() -> None:
    assert "algorithm.steps=5" in refusal("algorithm=maml,prototypes", "algorithm.steps=5")
    assert "algorithm.steps=5" in refusal("algorithm=prototypes,maml", "algorithm.steps=5")


def test_a_sweep_needs_multirun() -> None:
    message = refusal("seed=1,2", multirun=False)
    assert "add -m" in message
    assert "give one value" in message
    check_overrides("train", ["seed=1,2", "hydra.mode=MULTIRUN"], [], multirun=False)
    check_overrides("train", ["seed=1,2", "experiment=sweep"], [], multirun=False)


def test_a_users_own_folder_adds_options(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "resnet.yaml").write_text("depth: 12\n")
    folder = str(tmp_path / "mine")
    check_overrides("train", ["model=resnet", "model.depth=10"], [folder])
    with pytest.raises(UserError, match=r"did you mean resnet\?.*conv4, mlp, resnet"):
        check_overrides("train", ["model=resnett"], [folder])
    with pytest.raises(UserError, match="model has no 'resnet'"):
        check_overrides("train", ["model=resnet"], [])
    check_overrides("train", ["model=resnet", f"hydra.searchpath=[file://{folder}]"], [])
    with pytest.raises(UserError, match="there is no such folder"):
        check_overrides("train", [], [str(tmp_path / "nowhere")])


def test_nothing_is_left_behind() -> None:
    running = object()
    GlobalHydra.instance().hydra = running  # type: ignore[assignment]
    try:
        check_overrides("train", ["seed=1"], [])
        assert GlobalHydra.instance().hydra is running
    finally:
        GlobalHydra.instance().clear()
    check_overrides("train", ["seed=1"], [])
    assert not GlobalHydra.instance().is_initialized()


def test_our_own_configuration_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaloop.config.folder import conf_dir

    monkeypatch.setattr("metaloop.config.composition.conf_dir", conf_dir)
    check_overrides("train", ["algorithm=anil", "trainer.max_steps=3", "logger=wandb"], [])
    assert "did you mean anil?" in refusal("algorithm=anill")
