"""Keys that nobody reads are refused."""

from dataclasses import fields
from pathlib import Path

import pytest

import metaloop
from metaloop.cli.main import main
from metaloop.config.words.known_keys import known_keys
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec

MISTYPED = {
    "sead: 3": "sead: there is no such key; did you mean seed?",
    "episode: {shot: 2}": "episode.shot: there is no such key; did you mean episode.shots?",
    "episode: {train: {querys: 2}}": "episode.train.querys: there is no such key; did you mean episode.train.queries?",
    "evaluation: {episodse: 7}": "evaluation.episodse: there is no such key; did you mean evaluation.episodes?",
    "validation: {evry: 2}": "validation.evry: there is no such key; did you mean validation.every?",
    "outer: {meta_btch: 2}": "outer.meta_btch: there is no such key; did you mean outer.meta_batch?",
    "width: 3": "width: there is no such key",
}


def written(folder: Path, line: str) -> str:
    (folder / "experiment").mkdir()
    (folder / "experiment" / "own.yaml").write_text(f"# @package _global_\n# own\n{line}\n")
    return str(folder)


@pytest.mark.parametrize("line", MISTYPED)
def test_B11_a_mistyped_key_of_an_experiment_file_is_refused_with_the_nearest(line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=MISTYPED[line].replace("?", r"\?")):
        metaloop.compose("experiment=own", config_dirs=[written(tmp_path, line)])


def test_a_key_that_values_refer_to_is_the_users_own(tmp_path: Path) -> None:
    folder = written(tmp_path, "width: 3\n_note: mine\nouter: {meta_batch: '${width}'}")
    assert metaloop.compose("experiment=own", config_dirs=[folder]).config["outer"]["meta_batch"] == 3


@pytest.mark.parametrize("word", ["algoritm=anil", "+algoritm=anil"])
def test_F3_a_mistyped_group_is_refused_and_no_hint_adds_it(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", word]) == 2
    error = capsys.readouterr().err
    assert "did you mean algorithm?" in error
    assert "added with" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["+trainer.fast_dev_run=true", "+trainer.callbacks=[]"])
def test_F12_what_would_be_ignored_or_shorten_a_run_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=word.partition("=")[0].removeprefix("+")):
        metaloop.compose(word)


def test_the_keys_of_an_episode_are_those_of_its_class() -> None:
    assert known_keys()["episode.train"] == tuple(field.name for field in fields(EpisodeSpec) if field.compare)
