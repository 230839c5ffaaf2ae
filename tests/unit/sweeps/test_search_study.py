"""The trials of a search: proposed, remembered and judged by Optuna, whatever happens to processes."""

import math
import random
from pathlib import Path

import pytest

from metaloop.errors import UserError
from metaloop.sweeps.search.search import Parameter, Search
from metaloop.sweeps.search.study import JOURNAL, Study

SPACE = {"lr": Parameter("float", 0.01, 1.0, log=True), "rule": Parameter("choice", choices=("a", "b"))}


def study(directory: Path, search: Search | None = None, mode: str = "maximize") -> Study:
    return Study(directory, search or Search(SPACE), {"model": "tiny"}, mode, (10, 90))


def tried(one: Study, values: list[float]) -> list[dict[str, str]]:
    """Trials with these values, and what they were."""
    found = []
    for value in values:
        with one.locked():
            trial = one.ask()
            one.assign(trial, f"key{trial.number}")
            one.end(trial, [value] * len(one.directions))
            found.append(one.overrides_of(trial))
    return found


def test_the_same_seed_proposes_the_same_also_after_a_new_start(tmp_path: Path) -> None:
    values = [math.sin(number) for number in range(14)]  # beyond the random ones at the start
    whole = tried(study(tmp_path / "whole"), values)
    parts = tried(study(tmp_path / "parts"), values[:6]) + tried(study(tmp_path / "parts"), values[6:])
    assert parts == whole
    assert len({trial["lr"] for trial in whole}) == 14
    assert tried(study(tmp_path / "other", Search(SPACE, seed=1)), values) != whole


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    study(tmp_path)
    study(tmp_path, Search(SPACE, trials=99, sampler="random", prune="median", seed=4))
    with pytest.raises(UserError, match="other space"):
        study(tmp_path, Search({"lr": SPACE["lr"]}))
    with pytest.raises(UserError, match="other objectives"):
        study(tmp_path, Search(SPACE, objectives={"validation": None, "seconds": "minimize"}))


def test_half_a_line_at_the_end_of_the_journal_is_dropped(tmp_path: Path) -> None:
    tried(study(tmp_path), [0.1, 0.2])
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"op_code": 4, "wor')
    again = study(tmp_path)
    tried(again, [0.3])
    assert [trial.value for trial in again.trials()] == [0.1, 0.2, 0.3]


def test_a_proposal_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    one = study(tmp_path)
    with one.locked():
        one.ask()
    journal = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(journal[:-1]))  # without its last parameter
    again = study(tmp_path)
    (trial,) = again.trials()
    assert not again.is_complete(trial)
    assert again.trials() == []


def test_E16_a_journal_of_flipped_bytes_is_named_and_no_link_is_followed(tmp_path: Path) -> None:
    tried(study(tmp_path), [0.5, 0.25])
    path = tmp_path / JOURNAL
    whole, generator = path.read_bytes(), random.Random(0)
    refusals = 0
    for _ in range(60):
        broken = bytearray(whole)
        for place in generator.sample(range(len(broken) - 1), 3):
            broken[place] ^= 1 << generator.randrange(8)
        path.write_bytes(broken)
        try:
            study(tmp_path).trials()
        except UserError as error:
            refusals += str(tmp_path) in str(error)
    assert refusals > 40
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(UserError, match=r"search\.journal is damaged"):
        study(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        study(tmp_path)


def test_E1_a_trial_outside_the_space_is_not_run(tmp_path: Path) -> None:
    one = study(tmp_path)
    with one.locked():
        trial = one.ask()
    trial.params["rule"] = "{_target_:os.system}"
    with pytest.raises(UserError, match=r"which is not in search\.space"):
        one.overrides_of(trial)


def test_a_trial_that_falls_behind_is_to_be_pruned(tmp_path: Path) -> None:
    for mode, bad in (("maximize", 0.1), ("minimize", 0.9)):
        one = study(tmp_path / mode, Search(SPACE, prune="median"), mode)
        for _ in range(5):
            trial = one.ask()
            one.report(trial, {10: 0.5, 20: 0.5})
            one.end(trial, [0.5])
        behind, equal = one.ask(), one.ask()
        assert one.report(behind, {10: bad})
        assert not one.report(behind, {10: bad})  # nothing new
        assert not one.report(equal, {10: 0.5})
        never = study(tmp_path / mode)
        assert not never.report(never.ask(), {10: bad})


def test_values_that_are_no_numbers_are_failures_and_a_mended_one_is_not(tmp_path: Path) -> None:
    one = study(tmp_path)
    tried(one, [math.nan, 0.5])
    assert [trial.state.name for trial in one.trials()] == ["FAIL", "COMPLETE"]
    assert not one.replace_failed(one.trials()[0], [math.inf])
    assert one.replace_failed(one.trials()[0], [0.7])
    assert [(trial.number, trial.value) for trial in one.trials()] == [(1, 0.5), (2, 0.7)]
    assert [one.key_of(trial) for trial in one.best()] == ["key0"]


def test_the_front_of_two_objectives(tmp_path: Path) -> None:
    one = study(tmp_path, Search(SPACE, objectives={"validation": None, "seconds": "minimize"}))
    for number, values in enumerate([(0.5, 10), (0.6, 20), (0.4, 20), (0.7, 30), (0.6, 20)]):
        trial = one.ask()
        one.assign(trial, f"key{min(number, 3) if number < 4 else 1}")  # the last is the second's run
        one.end(trial, values)
    assert [trial.number for trial in one.best()] == [0, 1, 3]
    assert one.importances() == {"validation": None, "seconds": None}


@pytest.mark.parametrize("mode", ["maximize", "minimize"])
def test_importances_are_for_what_is_good(mode: str, tmp_path: Path) -> None:
    """Only the rate makes trials good; only the rule makes them bad."""
    one = study(tmp_path, Search(SPACE, sampler="random"), mode)
    for number in range(60):
        trial = one.ask()
        good = abs(math.log(trial.params["lr"] / 0.1)) < 0.4
        value = 10.0 if good else -10.0 if trial.params["rule"] == "b" and number % 3 == 0 else 0.0
        one.end(trial, [value if mode == "maximize" else -value])
    shares = one.importances()["validation"]
    assert shares is not None
    assert shares["lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
