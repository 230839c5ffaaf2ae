"""Queries of no class come with an episode and change nothing of it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from fake_texts import Characters, clinc150, decoded, write_folder
from metaloop.data.episodes import Episodes
from metaloop.data.out_of_scope import WithOutOfScope
from metaloop.data.philox import Stream
from metaloop.data.texts.clinc150 import Clinc150
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Tasks, map_inputs

SPEC = EpisodeSpec(5, 1, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "clinc150", clinc150())


def made(place: Path, asked: int, sampler: str = "any") -> Clinc150:
    return Clinc150(Characters(), str(place), 40, sampler, asked, str(place.parent / "cache"))


def episodes(place: Path, asked: int, split: str = "test", sampler: str = "any") -> Tasks:
    return Episodes(made(place, asked, sampler).split(split), SPEC, Stream(0, split)).tasks(torch.arange(50))


def test_out_of_scope_queries_are_the_splits_own(place: Path) -> None:
    for split, part, asked in (("test", "oos_test", 4), ("validation", "oos_val", 4)):
        outside = episodes(place, asked, split).outside
        assert isinstance(outside, Mapping)
        assert outside["input_ids"].shape == (50, asked, 40)
        assert outside["input_ids"].dtype == outside["attention_mask"].dtype == torch.int64
        texts = [[decoded(row) for row in rows] for rows in outside["input_ids"]]
        assert all(len(set(episode)) == asked for episode in texts)
        assert {text.rpartition(" ")[0] for episode in texts for text in episode} == {part}
    assert len({tuple(map(tuple, texts))}) == 1
    assert not isinstance(made(place, 4).split("train"), WithOutOfScope)
    assert made(place, 4).split("test").class_name(0) == made(place, 0).split("test").class_name(0) != "class 0"


@pytest.mark.parametrize("sampler", ["any", "within_domain"])
def test_they_change_nothing_else(sampler: str, place: Path) -> None:
    plain, more = episodes(place, 0, sampler=sampler), episodes(place, 4, sampler=sampler)
    assert plain.outside is None
    for left, right in ((plain.support, more.support), (plain.query, more.query)):
        assert torch.equal(left.y, right.y)
        assert all(torch.equal(left.x[name], right.x[name]) for name in left.x)  # type: ignore[call-overload]
    assert torch.equal(plain.classes, more.classes)  # type: ignore[arg-type]
    assert torch.equal(plain.support.number, more.support.number)  # type: ignore[arg-type]


def test_they_are_a_part_of_tasks_wherever_these_go(place: Path) -> None:
    tasks = episodes(place, 4)
    some = tasks[10:12].to("cpu")
    assert torch.equal(some.outside["input_ids"], tasks.outside["input_ids"][10:12])  # type: ignore[index, call-overload]
    moved = made(place, 4).split("test").to("cpu").draw(Stream(0, "test"), torch.arange(50), SPEC)
    assert torch.equal(moved.outside["input_ids"], tasks.outside["input_ids"])  # type: ignore[index, call-overload]
    assert map_inputs(torch.clone, tasks.outside).keys() == tasks.outside.keys()  # type: ignore[union-attr, arg-type]


def test_as_many_as_there_are(place: Path) -> None:
    episodes(place, 4, "validation")
    with pytest.raises(UserError, match=r"dataset\.out_of_scope=5: .*data_full\.json has only 4 texts in oos_val"):
        made(place, 5).split("train")
    for wrong in (-1, True, 1.5):
        with pytest.raises(UserError, match=r"dataset\.out_of_scope="):
            made(place, wrong)  # type: ignore[arg-type]
