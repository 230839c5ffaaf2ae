"""What can be fetched lies where the data sets look for it, and a copy that is not whole is found out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fakes import write_zip

from fake_texts import clinc150, json_lines, news, write_folder, write_official
from metaloop.config.folder import conf_dir
from metaloop.data.files import sources
from metaloop.data.texts.text_sources import TEXT_SOURCES
from metaloop.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_official(tmp_path)
    write_folder(tmp_path / "text" / "clinc150", clinc150())
    return tmp_path


def messages(name: str, data: Path) -> dict[str, str]:
    return {state.path.name: state.message for state in sources.verify(name, data)}


@pytest.mark.parametrize("dataset", ["banking77", "clinc150", "fewrel", "huffpost", "hwu64", "reuters"])
def test_files_lie_where_the_data_set_looks(dataset: str) -> None:
    config = yaml.safe_load((conf_dir() / "dataset" / f"{dataset}.yaml").read_text())
    place = config["data_dir"].removeprefix("${oc.env:METALOOP_DATA,data}/")
    name = {"huffpost": "news_fewshot", "reuters": "news_fewshot"}.get(dataset, dataset)
    source = TEXT_SOURCES[name]
    assert place in (source.folder, f"{source.folder}/{source.files[0].name.removesuffix('.zip')}")
    wanted = config.get("files", [])
    assert set([wanted] if isinstance(wanted, str) else wanted) <= {file.name for file in source.files}
    assert set((config.get("class_lists") or {}).values()) <= {file.name for file in source.files}


def test_whole_copies_say_what_they_hold(data: Path) -> None:
    assert messages("clinc150", data) == {"data_full.json": "22,500 texts of 150 intents", "domains.json": "10 domains"}
    found = messages("hwu64", data)
    assert [found[f"labels.{part}.txt"] for part in ("train", "valid", "test")] == ["16 classes", "23 classes", "25 classes"]
    (data / "text" / "fewrel" / "train_wiki.json").write_text(json.dumps({f"P{k}": FEW for k in range(64)}))
    assert messages("fewrel", data)["train_wiki.json"] == "64 sentences of 64 relations"
    lines = "".join(f'"a, text",intent {k % 77}\n' for k in range(3080))
    (data / "text" / "banking77" / "test.csv").write_text("text,category\n" + lines)
    assert messages("banking77", data)["test.csv"] == "3,080 texts of 77 classes"


FEW = [{"tokens": ["a", "b"], "h": ["a", "Q1", [[0]]], "t": ["b", "Q2", [[1]]]}]


def test_news_are_one_archive(tmp_path: Path) -> None:
    rows = {"data/huffpost.json": json_lines(news(41, 900)), "data/reuters.json": json_lines(news(31, 20))}
    write_zip(tmp_path / "text" / "news_fewshot.zip", rows)
    assert messages("news_fewshot", tmp_path) == {
        "news_fewshot.zip": "huffpost 36,900 texts of 41 classes, reuters 620 texts of 31 classes"
    }


def test_news_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"data/huffpost.json": json_lines(news(41, 900)), "data/reuters.json": json_lines(news(31, 20))}
    served = write_zip(tmp_path / "data.zip", rows)
    source = TEXT_SOURCES["news_fewshot"]
    monkeypatch.setitem(
        sources.SOURCES, "news_fewshot", replace(source, files=(replace(source.files[0], url=served.as_uri()),))
    )
    (state,) = sources.get("news_fewshot", tmp_path)
    assert state.sound
    assert (tmp_path / "text" / "news_fewshot.zip").read_bytes() == served.read_bytes()


@pytest.mark.parametrize(
    ("name", "file", "content", "expected"),
    [
        ("clinc150", "data_full.json", b'{"train": []}', "0 intents, not 150"),
        ("clinc150", "domains.json", b"{}", "does not list the ten domains"),
        ("banking77", "train.csv", b"text,category\nhi,a\n", "1 texts, at least 10,003 are expected"),
        ("banking77", "train.csv", b"text,intent\nhi,a\n", "no column 'category'"),
        ("hwu64", "labels.train.txt", b"a\n", "1 classes, not 16"),
        ("hwu64", "full.jsonl", b"<html>", "line 1: not JSON"),
        ("fewrel", "val_wiki.json", b"{", "not JSON, or cut short"),
        ("fewrel", "val_wiki.json", json.dumps({"P1": FEW}).encode(), "1 relations, not 16"),
    ],
)
def test_a_copy_that_is_not_whole(name: str, file: str, content: bytes, expected: str, data: Path) -> None:
    path = data / "text" / name / file
    path.write_bytes(content)
    state = next(state for state in sources.verify(name, data) if state.path == path)
    assert not state.sound
    assert expected in state.message


def test_what_arrives_broken_is_not_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = TEXT_SOURCES["fewrel"]
    served = write_folder(data / "served", {"val_wiki.json": b"<html>moved</html>"}) / "val_wiki.json"
    file = sources.SourceFile("val_wiki.json", served.as_uri(), None, source.files[1].check)
    with pytest.raises(UserError, match=r"did not give the expected file: .*not JSON"):
        sources.fetch(file, data / "new" / "val_wiki.json")
    assert list((data / "new").iterdir()) == []


@pytest.mark.data
def test_the_real_copy_of_clinc150_is_whole(real_data: Path, tmp_path: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(real_data / "text" / "clinc150.zip") as archive:
        archive.extractall(tmp_path / "text" / "clinc150")
    assert all(state.sound for state in sources.verify("clinc150", tmp_path))


def test_an_archive_in_the_files_place_is_no_missing_file(tmp_path: Path) -> None:
    def found() -> list[sources.FileState]:
        return [state for state in sources.status(tmp_path) if state.source == "clinc150"]

    assert [state.size for state in found()] == [None, None]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "clinc150.zip").write_bytes(b"12345")
    assert [(state.size, state.path.name) for state in found()] == [(5, "clinc150.zip")] * 2
