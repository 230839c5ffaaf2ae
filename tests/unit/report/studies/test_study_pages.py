"""Pages of studies, from records that are made here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY
from metaloop.records.schema import Hardware
from metaloop.records.studies import Evaluated, Facts, StudiedRun, StudyRecord, read_study, write_study
from metaloop.report.studies import minutes, number, reuse
from metaloop.report.studies.parts import gap

Settings = Mapping[str, str]


def _run(settings: Settings, inspection: Mapping[str, Any] | None = None) -> StudiedRun:
    hardware = Hardware("x86_64", "a CPU", 4, None, 1, 1)
    return StudiedRun(settings, ("dataset=omniglot",), 0, 100, 8, 12.0, 10.0, hardware, "0123456789abcdef", inspection)


def _record(name: str, runs: Sequence[StudiedRun], evaluations: Sequence[tuple[int, Settings, np.ndarray]]) -> StudyRecord:
    facts = [
        Evaluated(run, settings, str(n), "5-way 1-shot", 1, 3, "batch", True, 0.2)
        for n, (run, settings, _) in enumerate(evaluations)
    ]
    scores = {str(n): scores for n, (_, _, scores) in enumerate(evaluations)}
    return StudyRecord(Facts(name, ("metaloop", "study", name), ACCURACY, tuple(runs), tuple(facts)), scores)


def _number(episodes: int = 50) -> StudyRecord:
    """Two factors whose effects add up: support norms cost 0.1, one inner step costs 0.02, noise is that of the episode."""
    noise = 0.02 * np.random.default_rng(0).standard_normal(episodes)
    evaluations = [
        (run, {"episode.queries": "1", "model.norm": norm, "dataset.rotations": "none", "algorithm.eval_steps": steps},
         0.8 + noise - 0.1 * (norm == "support") - 0.02 * (steps == "1") - 0.05 * run)
        for run in (0, 1) for norm in ("batch", "support") for steps in ("3", "1")
    ]  # fmt: skip
    many = (0, {"evaluation.episodes": "1500"}, 0.8 + 0.1 * np.random.default_rng(1).standard_normal(1500))
    orders = [_run({"algorithm/meta_gradient": order}) for order in ("unrolled", "first_order")]
    return _record("number", orders, [*evaluations, many])


def _layer(value: float) -> dict[str, Any]:
    ends = [{"mean": 1.0, "half_width": 0.0}, {"mean": value, "half_width": 0.01}]
    return {"layer": "block 1", "cka": ends, "cosine": ends}


def _reuse() -> StudyRecord:
    inspection = {"episodes": 100, "representations": [_layer(0.75)]}
    runs = [_run({"algorithm/adapted": part}, inspection) for part in ("all", "head", "body")]
    scores = {"all": 0.9, "head": 0.85, "body": 0.6}
    noise = 0.02 * np.random.default_rng(0).standard_normal(40)
    return _record(
        "reuse", runs, [(run, {"algorithm/adapted": part}, scores[part] + noise) for run in range(3) for part in scores]
    )


def _minutes() -> StudyRecord:
    noise = 0.02 * np.random.default_rng(0).standard_normal((4, 60))
    runs = [_run({"algorithm": "maml"}), _run({"algorithm": "prototypes", "episode.train.ways": "20"})]
    means = {(0, 1): 0.5, (0, 2): 0.8, (1, 1): 0.7, (1, 2): 0.75}
    each = [
        (run, {"checkpoint": f"minutes-{mark}.ckpt"}, mean + noise[n]) for n, ((run, mark), mean) in enumerate(means.items())
    ]
    return _record("minutes", runs, each)


def test_main_effects_are_those_that_made_the_scores() -> None:
    effects = {(each.factor, each.value): each for each in number.main_effects(_number())}
    assert {key for key, _ in effects} == {"model.norm", "algorithm.eval_steps", "algorithm/meta_gradient"}
    for key, change in (("model.norm", ("support", -0.1)), ("algorithm.eval_steps", ("1", -0.02))):
        found = effects[key, change[0]].difference
        assert found is not None
        assert found.mean == pytest.approx(change[1])
        assert found.half_width == pytest.approx(0.0, abs=1e-9)  # paired: the episodes' noise is in both
    order = effects["algorithm/meta_gradient", "first_order"]
    assert (order.settings, order.difference and order.difference.mean) == (4, pytest.approx(-0.05))


def test_the_page_of_a_number_names_the_range_and_the_luck() -> None:
    page = number.page(_number())
    head = next(line for line in page.text.splitlines() if line.startswith("**One network, 4 protocols"))
    assert "support set (inductive)" in head.split(" to ")[0]
    assert "| 100 | 15 |" in page.text
    assert "| 600 | 2 |" in page.text
    assert sorted(page.pictures) == ["study_number_effects.png", "study_number_tasks.png"]
    assert all(content.startswith(b"\x89PNG") for content in page.pictures.values())


def test_the_page_of_reuse_has_what_adapts_and_what_changes() -> None:
    page = reuse.page(_reuse())
    row = next(line for line in page.text.splitlines() if line.startswith("| MAML | 20.00"))
    assert "(−5.00 ± 0.00)" in row
    assert "(−30.00 ± 0.00)" in row
    lead = next(line for line in page.text.splitlines() if line.startswith("**The same parts"))
    assert [part[:5] for part in lead.split("(")[1:]] == ["−30.0", "−5.00", "−5.00"]
    assert "| ANIL | CKA | 0.750 ± 0.010 |" in page.text
    assert len(page.pictures) == 2


def test_the_page_of_minutes_marks_the_best_and_its_equals() -> None:
    text = minutes.page(_minutes()).text
    first, second = (line for line in text.splitlines() if line.startswith(("| maml", "| prototypes")))
    assert first.startswith("| maml")  # the best at the end comes first
    assert first.index("**") > first.index("50.")
    assert second.index("**") < second.index("74.")
    assert "≈" not in text.split("Bold")[0]
    assert text.endswith("common ones:\n\n- prototypes: `episode.train.ways=20`\n")


def test_episodes_are_paired_by_number_up_to_the_shorter() -> None:
    assert gap(np.array([1.0, 2.0, 9.0]), np.array([0.0, 1.0])).mean == pytest.approx(1.0)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = _number()
    write_study(tmp_path / "number", record)
    again = read_study(tmp_path / "number")
    assert again.facts == record.facts
    assert all(np.allclose(again.scores[name], scores, rtol=1e-5) for name, scores in record.scores.items())
    table = tmp_path / "number" / "scores.csv"
    table.write_text(table.read_text().replace("index,0,", "index,zero,", 1))
    with pytest.raises(UserError, match="disagree about the column"):
        read_study(tmp_path / "number")


def test_pages_are_written_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(Path("docs/records/studies/reuse"), _reuse())
    assert main(["study"]) == 0
    assert main(["study", "--check"]) == 0
    assert (tmp_path / "docs" / "images" / "study_reuse_layers.png").is_file()
    page = tmp_path / "docs" / "study_reuse.md"
    page.write_text(page.read_text().replace("MAML", "BOIL"))
    assert main(["study", "--check"]) == 1
    assert "study_reuse.md and the records disagree" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [(["numbr"], "did you mean number"), (["seed=1"], "name one study"), (["minutes", "--check"], "docs/records/studies")],
)
def test_mistakes_are_told(words: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *words]) == 2
    assert part in capsys.readouterr().err
