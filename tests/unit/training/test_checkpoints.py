"""Checkpoints: whole or not at all, plain data only, the best kept."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from metaloop.errors import UserError
from metaloop.system.files import replace_atomically
from metaloop.system.tensors import load_checkpoint
from metaloop.training.checkpoints import Checkpoints, top_checkpoints
from metaloop.training.restoring import checked


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        replace_atomically(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    replace_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("seed", range(20))
def test_damage_of_any_kind_is_the_users_error_and_no_other(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.arange(100.0)}, "metaloop": {"fingerprint": "f"}}, path)
    content = bytearray(path.read_bytes())
    random = torch.Generator().manual_seed(seed)
    for place in torch.randint(len(content), (1 + 30 * (seed % 4),), generator=random).tolist():
        content[place] ^= 0xFF
    path.write_bytes(bytes(content) if seed % 2 else os.urandom(300) + bytes(content))
    with contextlib.suppress(UserError):  # what hits only the numbers passes unseen
        load_checkpoint(path)


def test_what_others_wrote_is_refused(tmp_path: Path) -> None:
    for content in ({}, {"metaloop": 3}, {"metaloop": {}}):
        with pytest.raises(UserError, match="not written by metaloop"):
            checked(content, "f", tmp_path)
    with pytest.raises(UserError, match="of another config"):
        checked({"metaloop": {"fingerprint": "g"}}, "f", tmp_path)
    assert checked({"metaloop": {"fingerprint": "f", "x": 1}}, "f", tmp_path)["x"] == 1


class Module(torch.nn.Module):
    """As much of the outer module as a keeper reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.progress: dict[str, float] = {}


class FakeTrainer(SimpleNamespace):
    def save_checkpoint(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.write_text(str(self.global_step))


def kept(
    directory: Path,
    scores: list[float],
    monkeypatch: pytest.MonkeyPatch,
    patience: int | None = None,
    merits: list[float] | None = None,
    keep: int = 1,
) -> tuple[Checkpoints, int]:
    """A keeper that saw these validations, ten steps apart, and how many it let come."""
    monkeypatch.setattr("metaloop.training.checkpoints.OuterModule", Module)
    strategy = SimpleNamespace(barrier=lambda name: None)
    trainer: Any = FakeTrainer(is_global_zero=True, should_stop=False, strategy=strategy, global_step=0)
    module: Any = Module()
    keeper = Checkpoints(directory, "f", patience, keep)
    for number, score in enumerate(scores, start=1):
        trainer.global_step = 10 * number
        module.progress |= {"after": score, "merit": score if merits is None else merits[number - 1]}
        keeper.on_train_epoch_end(trainer, module)
        if trainer.should_stop:
            return keeper, number
    return keeper, len(scores)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.1, 0.3, 0.2], 20),
        ([-0.3, -0.1, -0.2], 20),
        ([0.3, 0.3], 10),
        ([float("nan"), 0.1, 0.2], 30),
        ([float("nan"), -5.0, float("nan")], 20),
        ([float("-inf"), -5.0], 20),
    ],
)
def test_the_first_best_is_kept(scores: list[float], best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, _ = kept(tmp_path, scores, monkeypatch)
    assert keeper.best_step == best
    assert (tmp_path / "best.ckpt").read_text() == str(best)
    assert (tmp_path / "last.ckpt").read_text() == str(10 * len(scores))


def test_the_best_is_chosen_by_merit_and_known_by_its_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, _ = kept(tmp_path, [0.1, 0.3, 0.2], monkeypatch, merits=[-0.4, 0.5, 0.1])
    assert (keeper.best_step, keeper.best, keeper.best_score) == (20, 0.5, 0.3)
    assert (tmp_path / "best.ckpt").read_text() == "20"


@pytest.mark.parametrize(("patience", "seen"), [(1, 3), (2, 4), (None, 6)])
def test_patience(patience: int | None, seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, came = kept(tmp_path, [0.1, 0.3, 0.2, 0.3, 0.3, 0.3], monkeypatch, patience=patience)
    assert came == seen


def test_what_was_left_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Checkpoints(tmp_path, "f", None).last_good() == "there is no checkpoint yet"
    keeper, _ = kept(tmp_path, [0.1], monkeypatch)
    assert str(tmp_path / "last.ckpt") in keeper.last_good()


def test_C3_the_best_checkpoints_are_kept_for_an_ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, _ = kept(tmp_path, [0.1, 0.3, float("nan"), 0.3, 0.2, 0.4], monkeypatch, keep=3)
    assert [path.name for path in top_checkpoints(tmp_path)] == ["top-20.ckpt", "top-40.ckpt", "top-60.ckpt"]
    assert [path.read_text() for path in top_checkpoints(tmp_path)] == ["20", "40", "60"]
    other = Checkpoints(tmp_path, "f", None, keep=3)
    other.load_state_dict(keeper.state_dict())
    assert other.top == keeper.top == [[0.4, 60], [0.3, 20], [0.3, 40]]
    kept(tmp_path / "alone", [0.1, 0.2], monkeypatch)
    assert top_checkpoints(tmp_path / "alone") == []
    with pytest.raises(UserError, match=r"evaluation\.ensemble=0: at least 1"):
        Checkpoints(tmp_path, "f", None, keep=0)
