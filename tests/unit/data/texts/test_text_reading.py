"""Files of texts from folders and archives, whole and broken; a message names file, line and remedy."""

import csv
import json
from pathlib import Path

import pytest
from fakes import write_zip

from metaloop.data.class_splits import by_lists
from metaloop.data.files.archives import Origin
from metaloop.data.texts.text_reading import TextFile, _repeated, read_file, read_text
from metaloop.errors import UserError

ORIGIN = Origin("sayings", "MIT")


def file(text: str) -> TextFile:
    return TextFile(Path("sayings.csv"), text, ORIGIN)


def test_a_file_is_found_in_a_folder_and_in_an_archive_beside_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "sayings.zip", {"inside/a.txt": "héllo".encode(), "b.txt": b"\xef\xbb\xbfmark"})
    assert read_text(tmp_path / "sayings", "a.txt", ORIGIN).text == "héllo"
    assert read_text(tmp_path / "sayings.zip", "b.txt", ORIGIN).text == "mark"
    (tmp_path / "sayings").mkdir()
    (tmp_path / "sayings" / "a.txt").write_text("folder")
    assert read_text(tmp_path / "sayings", "a.txt", ORIGIN).text == "folder"
    assert read_file(tmp_path / "sayings" / "a.txt", ORIGIN).text == "folder"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"b.txt": b""}, "no entries named a.txt"),
        ({"a.txt": b"", "x/a.txt": b""}, "2 entries named a.txt"),
        ({"../a.txt": b""}, "points outside the archive"),
        ({"/a.txt": b""}, "points outside the archive"),
        ({"a.txt": b"fine\nfine\n\xff"}, "line 3: not UTF-8"),
    ],
)
def test_an_archive_that_will_not_do(entries: dict[str, bytes], expected: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "sayings.zip", entries)
    with pytest.raises(UserError, match=expected) as error:
        read_text(tmp_path / "sayings", "a.txt", ORIGIN)
    assert str(path) in str(error.value)
    assert "metaloop data get sayings" in str(error.value)


def test_an_archive_that_is_cut_short_or_altered(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "sayings.zip", {"a.txt": b"word " * 100})
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole.replace(b"word", b"ward", 1), b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"sayings\.zip: not a whole zip archive"):
            read_text(path, "a.txt", ORIGIN)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt: no such file, and no sayings\.zip beside its folder\. Get it with"):
        read_text(tmp_path / "sayings", "a.txt", ORIGIN)
    with pytest.raises(UserError, match=r"sayings: no such file"):
        read_file(tmp_path / "sayings", ORIGIN)
    with pytest.raises(UserError, match="cannot be read"):
        read_file(tmp_path, ORIGIN)
    with pytest.raises(UserError, match=r"no such file\. Ask Ann \(licence: MIT\)"):
        read_file(tmp_path / "none", Origin("sayings", "MIT", remedy="Ask Ann"))


def test_lines_end_at_line_feeds_and_carriage_returns_alone() -> None:
    assert file("a\n\nb\r\nc\rd\n \n\n").lines() == ["a", "", "b", "c", "d"]
    rare = "one\u2028two\x85three\x0bfour\x0cfive\x1csix"
    assert file(rare).lines() == [rare]
    assert file(" \n").lines() == file("").lines() == []


def test_a_list_of_classes_is_read_by_lines() -> None:
    names = {"train": "a\u2028b", "validation": "c", "test": "d"}
    found = by_lists({split: split for split in names}, names.values(), lambda split: file(f"{names[split]}\r\n\n"))
    assert found == {split: [name] for split, name in names.items()}


def test_an_archive_may_be_called_anything(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "sayings.zip.part7", {"a.txt": b"partial"})
    assert read_text(path, "a.txt", ORIGIN).text == "partial"


def test_lines_of_json() -> None:
    assert list(file('{"a": 1}\n\n{"a": "\\u2028"}\n').json_lines()) == [(1, {"a": 1}), (3, {"a": "\u2028"})]
    for text, expected in (('{"a": 1}\n{"a": ', "line 2: not JSON"), ("[1]", "line 1: must be a JSON object")):
        with pytest.raises(UserError, match=expected):
            list(file(text).json_lines())
    with pytest.raises(UserError, match="not JSON, or cut short"):
        file('{"a": [1, 2').json()


def test_rows_of_csv() -> None:
    rows = list(file('text,label\n"two\nlines, ""quoted""",a\n\nplain,b\n').csv_rows())
    assert rows == [(3, {"text": 'two\nlines, "quoted"', "label": "a"}), (5, {"text": "plain", "label": "b"})]
    assert list(file("a\tb\n1\t2\n").csv_rows("\t")) == [(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: no header"),
        ("a,b\n1,2\n1\n", "line 3: 1 cells, but the header has 2"),
        ("a,b,a\n1,2,3\n", "line 1: column 'a' is named twice"),
        ('a,b\n"1,2\n', r"line \d: not readable as CSV"),
    ],
)
def test_csv_that_will_not_do(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        list(file(text).csv_rows())


def test_a_column_that_is_missing_is_named_with_those_there_are() -> None:
    assert file("").field({"a": 1}, "a", 1) == 1
    with pytest.raises(UserError, match="line 7: no column 'text'; the columns are 'utterance', 'intent'"):
        file("").field({"utterance": "", "intent": ""}, "text", 7)


def test_a_text_is_one_and_not_empty() -> None:
    assert file("").sentence("hello") == "hello"
    assert file("").sentence(["hello", "there"]) == "hello there"
    for value, expected in (
        ("  ", "an empty text"),
        ([], "an empty text"),
        (7, "must be a text, not '7'"),
        (["a", 1], "must be a text"),
        ("\ud800", "not Unicode text"),
    ):
        with pytest.raises(UserError, match=f"line 4: key: {expected}"):
            file("").sentence(value, 4, "key")


def test_B9_a_cell_may_hold_a_long_text() -> None:
    limit = csv.field_size_limit()
    long = "word " * 40_000
    assert list(file(f'text,label\n"{long}",a\n').csv_rows()) == [(2, {"text": long, "label": "a"})]
    assert csv.field_size_limit() == limit


def test_E14_a_cell_or_a_line_that_cannot_be_one_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaloop.data.texts.text_reading.LARGEST_TEXT", 50)
    with pytest.raises(UserError, match="line 2: a cell of more than 50 letters; check the quotation marks"):
        list(file("text,label\n" + "x" * 60 + ",a\n").csv_rows())
    for read in (TextFile.lines, lambda each: list(each.json_lines())):
        with pytest.raises(UserError, match="line 2: more than 50 letters; check the line ends"):
            read(file("{}\n" + "x" * 60))


def test_E14_a_wide_header_is_read_in_one_pass() -> None:
    names = [_Counted(f"c{k}") for k in range(2_000)]
    _Counted.compared = 0
    assert _repeated(names) == []
    assert _Counted.compared < 20_000
    assert _repeated([*names, names[7]]) == [names[7]]


def test_E14_a_wrong_column_of_a_wide_table_names_a_few() -> None:
    with pytest.raises(UserError, match=r"no column 'text'; the columns are 'c0', .*'c9' and 90 more") as error:
        file("").field({f"c{k}": 1 for k in range(100)}, "text", 1)
    assert len(str(error.value)) < 400


class _Counted(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        _Counted.compared += 1
        return str.__eq__(self, other)


LISTS = ["[]", " [ ] \n", '[{"a": 1}]', '[{"a": 1} , {"b": "]"}]\n', '\n[\n{"a": [1, {}]}\t,\r\n{}\n]', '[{"a": "\\u00e9"}]']
BROKEN = ["[", "[,]", '[{"a": 1}', '[{"a": 1},]', '[{"a": 1} {}]', '[{"a": 1}]]', '[{"a": 1}] x', "[" * 100_000]


@pytest.mark.parametrize("text", LISTS)
def test_a_json_list_is_read_entry_by_entry_as_python_reads_it(text: str) -> None:
    assert list(file(text).json_objects()) == list(enumerate(json.loads(text), 1))


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_json_list_is_refused_and_the_entries_before_need_no_memory(text: str) -> None:
    entries = file(text).json_objects()
    with pytest.raises(UserError, match="not JSON, or cut short"):
        assert all(entry == (1, {"a": 1}) for entry in entries)  # each is there before the next is read
