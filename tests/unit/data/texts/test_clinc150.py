"""CLINC150 in its official format, whole and broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import write_zip

from fake_texts import Characters, clinc150, decoded, write_folder
from metaloop.data.philox import Stream
from metaloop.data.texts.clinc150 import DOMAINS, Clinc150, read_domains, read_intents
from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords
from metaloop.types import EpisodeSpec


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return clinc150()


def made(place: Path, sampler: str = "any") -> Clinc150:
    return Clinc150(Characters(), str(place), 40, sampler, cache_dir=str(place.parent / "cache"))


def test_domains_are_held_out_whole(files: dict[str, bytes], tmp_path: Path) -> None:
    dataset = made(write_folder(tmp_path / "clinc150", files))
    for split, domains in DOMAINS.items():
        pool = dataset.split(split)
        assert pool.names == tuple(f"{domain}_{k}" for domain in domains for k in range(15))
        assert set(pool.class_sizes) == {150}
        texts = [decoded(row) for row in pool.inputs["input_ids"][150:300]]  # type: ignore[call-overload]
        assert texts == [f"{domains[0]}_1 text {k}" for k in range(150)]


def test_an_archive_does_as_well(files: dict[str, bytes], tmp_path: Path) -> None:
    write_zip(tmp_path / "clinc150.zip", files)
    assert made(tmp_path / "clinc150").split("test").num_classes == 45


def test_the_samplers(files: dict[str, bytes], tmp_path: Path) -> None:
    place = write_folder(tmp_path / "clinc150", files)
    spread = {}
    for sampler in ("any", "within_domain"):
        tasks = made(place, sampler).split("test").draw(Stream(0, "test"), torch.arange(100), EpisodeSpec(5, 1, 1))
        domains = tasks.classes // 15  # type: ignore[operator]
        assert set(domains.flatten().tolist()) == {0, 1, 2}
        spread[sampler] = {len(set(row)) for row in domains.tolist()}
    assert spread["within_domain"] == {1}
    assert max(spread["any"]) == 3
    with pytest.raises(UserError, match=r"dataset\.sampler='domain' must be one of any, within_domain"):
        made(place, "domain")


def dropped(content: dict[str, Any]) -> None:
    del content["val"]


def missing_class(content: dict[str, Any]) -> None:
    content["train"] = [pair for pair in content["train"] if pair[1] != "work_3"]


def empty_text(content: dict[str, Any]) -> None:
    content["test"][7][0] = " "


def no_pair(content: dict[str, Any]) -> None:
    content["train"][2] = ["only a text"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (dropped, "no list named val"),
        (missing_class, "part train: 0 texts of work_3, not 100"),
        (empty_text, r"test\[7\]: an empty text"),
        (no_pair, r"train\[2\] must be a pair of text and intent"),
    ],
)
def test_contents_that_will_not_do(change: Callable[[dict[str, Any]], None], expected: str, tmp_path: Path) -> None:
    files = clinc150()
    content = json.loads(files["data_full.json"])
    change(content)
    place = write_folder(tmp_path / "clinc150", files | {"data_full.json": json.dumps(content).encode()})
    with pytest.raises(UserError, match=expected) as error:
        made(place).split("train")
    assert "data_full.json" in str(error.value)
    assert "metaloop data get clinc150" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("domains.json", b'{"banking": []}', "does not list the ten domains"),
        ("domains.json", b"[]", "does not list the ten domains"),
        ("data_full.json", b'{"train": [["cut', "not JSON, or cut short"),
        ("data_full.json", b'{"train": "\xff"}', "line 1: not UTF-8"),
    ],
)
def test_files_that_will_not_do(name: str, content: bytes, expected: str, files: dict[str, bytes], tmp_path: Path) -> None:
    place = write_folder(tmp_path / "clinc150", files | {name: content})
    with pytest.raises(UserError, match=expected):
        made(place).split("train")


def test_a_domain_that_lost_an_intent(files: dict[str, bytes], tmp_path: Path) -> None:
    domains = json.loads(files["domains.json"])
    domains["home"][3] = domains["home"][4]
    place = write_folder(tmp_path / "clinc150", files | {"domains.json": json.dumps(domains).encode()})
    with pytest.raises(UserError, match="domain home must have 15 different intents"):
        made(place).split("train")


@pytest.mark.data
def test_the_real_file(real_data: Path, tmp_path: Path) -> None:
    place = real_data / "text" / "clinc150"
    assert sum(map(len, read_intents(place).values())) == 22_500
    assert read_domains(place)["banking"][0] == "freeze_account"
    dataset = Clinc150(HashedWords(1000), str(place), 32, cache_dir=str(tmp_path))
    assert [dataset.split(split).num_classes for split in DOMAINS] == [75, 30, 45]
    assert int(dataset.split("test").inputs["attention_mask"].sum(1).max()) < 32  # type: ignore[call-overload]
