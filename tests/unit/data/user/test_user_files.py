"""A user's own examples become what the data set makes of its own."""

import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metaloop.data.files.archives import read_ink
from metaloop.data.images.image_files import decode
from metaloop.data.images.image_folder import ImageFolder
from metaloop.data.philox import Stream
from metaloop.data.tables.tabular import Tabular
from metaloop.data.user.row_files import read_rows
from metaloop.data.user.tasks import Columns, UserRows, user_task
from metaloop.data.user.texts import read_user_texts
from metaloop.errors import UserError
from metaloop.problems.classification import Classification
from metaloop.problems.problem import Problem
from metaloop.problems.regression import Regression
from metaloop.types import EpisodeSpec


@pytest.mark.parametrize(("mode", "channels"), [("color", 3), ("grey", 1), ("ink", 1)])
def test_pictures_are_the_pools(tmp_path: Path, mode: str, channels: int) -> None:
    for label in "abc":
        (tmp_path / "own" / label).mkdir(parents=True)
        for each in range(2):
            noise = np.random.default_rng([ord(label), each]).integers(0, 256, (30 + each, 20, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "own" / label / f"{each}.png")
    shares = dict.fromkeys(("train", "validation", "test"), 1.0)
    data = ImageFolder(str(tmp_path / "own"), shares, side=9, mode=mode, decoders=0, cache_dir=str(tmp_path / "cache"))
    rows = data.read_user_file(tmp_path / "own", Columns(), (channels, 9, 9), labelled=True)
    for split in shares:
        pool = data.split(split)
        assert pool.input_shape == (channels, 9, 9)
        found = torch.tensor([label == pool.names[0] for label in rows.labels])
        assert isinstance(rows.inputs, torch.Tensor)
        assert torch.equal(rows.inputs[found], pool.inputs)


def test_ink_is_that_of_the_archives() -> None:
    drawing = np.where(np.random.default_rng(0).random((105, 105)) < 0.2, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(drawing).convert("1").save(file, "PNG")
    assert np.array_equal(
        decode(file.getvalue(), 28, "crop", "lanczos", mode="ink")[0], read_ink(file.getvalue(), 105, 28, "lanczos")
    )


@pytest.mark.parametrize(("problem", "table", "ways"), [(Classification(), "wine", 3), (Regression(), "diabetes", 1)])
def test_a_table_is_standardised_as_an_episode_is(problem: Problem, table: str, ways: int, tmp_path: Path) -> None:
    data = Tabular(problem, {key: [table] for key in ("train", "validation", "test")}, "")
    tasks = data.split("train")
    number = torch.zeros(1, dtype=torch.int64)
    stream = Stream(0, "train")
    wanted = tasks.draw(stream, number, EpisodeSpec(ways, 4, 2))
    groups = stream.without_replacement(number, torch.tensor([[ways]]), ways, "classes")[:, 0]
    sizes = tasks._sizes[groups]
    chosen = stream.without_replacement(number, sizes, 6, "rows")
    drawn = tasks.rows[tasks._starts[groups][..., None] + chosen][0]
    files = []
    for part in (drawn[:, :4], drawn[:, 4:]):
        flat = part.flatten(0, 1).tolist()
        marks = [f"{place // part.shape[1]}" if ways > 1 else repr(row[0]) for place, row in enumerate(flat)]
        lines = [",".join([mark, *map(repr, row[1:])]) for mark, row in zip(marks, flat, strict=True)]
        path = tmp_path / f"{len(files)}.csv"
        path.write_text("\n".join([",".join(["label", *(f"x{n}" for n in range(len(flat[0]) - 1))]), *lines]) + "\n")
        files.append(data.read_user_file(path, Columns(), tasks.input_shape, labelled=True))
    task = user_task(files[0], problem)
    assert isinstance(files[1].inputs, torch.Tensor)
    own, asked, scale = data.user_inputs(task.inputs, task.targets, task.mask, files[1].inputs[None])
    support = task.support(own, scale)
    assert torch.equal(support.x, wanted.support.x)
    assert torch.equal(asked, wanted.query.x)
    assert torch.allclose(support.y, wanted.support.y)


def test_labels_that_programs_write_otherwise_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('[{"n": 1.0}, {"n": NaN}, {"n": 2}, {"n": 2.5}, {"n": null}, {"n": "nan"}, {"n": " "}]')
    found = read_rows(file)
    assert [found.label(row, line, "n") for line, row in found.rows] == ["1", None, "2", "2.5", None, "nan", None]
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(b"\xef\xbb\xbf[{}]")
    assert read_rows(file).digest == hashlib.sha256(file.read_bytes()).hexdigest()


def rows(labels: Sequence[str], features: Sequence[str] = ()) -> UserRows:
    """As many rows, all of the same example."""
    many = len(labels)
    return UserRows(Path("s.csv"), "", torch.zeros(many, 1), tuple(labels), ("a",) * many, ("a",) * many, tuple(features))


def test_a_task_knows_its_labels_by_either_spelling() -> None:
    task = user_task(rows(["1.0", "2.0", "1", "v1.0", "v1"], ["x"]), Classification())
    assert task.classes == ("1", "2", "v1", "v1.0")
    assert [task.label(given) for given in ("1.0", "2", "v1.0", "1.5", None)] == ["1", "2", "v1.0", None, None]
    numbers = user_task(rows(["1.0", "3"], ["x"]), Regression())
    assert [numbers.label(given) for given in ("7.5", "inf", "dear", None)] == ["7.5", None, None, None]


def test_only_texts_and_pictures_have_one_label() -> None:
    with pytest.raises(UserError, match="'a' has two labels, 'p' and 'q'"):
        user_task(rows(["p", "q"]), Classification())
    user_task(rows(["1", "1.0", "2"], ["x"]), Classification())  # rows of a table may have the same numbers
    assert user_task(rows(["1", "2"]), Regression()).y.tolist() == [[1, 2]]  # measured twice


def test_a_line_of_texts_ends_where_editors_end_it(tmp_path: Path) -> None:
    file = tmp_path / "q.txt"
    file.write_bytes("one\u2028still\r\ntwo\x0cstill\n".encode())
    assert read_user_texts(file, Columns(), labelled=False).texts == ("one\u2028still", "two\x0cstill")


def test_pictures_of_one_folder_have_no_labels_in_an_archive_either(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / "holiday" / name)
    archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, "holiday"))
    data = ImageFolder(str(tmp_path), dict.fromkeys(("train", "validation", "test"), 1.0), side=9, decoders=0)
    for path in (archive, tmp_path / "holiday"):
        assert data.read_user_file(path, Columns(), (3, 9, 9), labelled=False).labels == (None, None)
    assert data.read_user_file(archive, Columns(), (3, 9, 9), labelled=True).labels == ("holiday", "holiday")


def test_E16_a_number_that_is_not_finite_is_named_by_file_and_row(tmp_path: Path) -> None:
    tables = {split: ["diabetes"] for split in ("train", "validation", "test")}
    data = Tabular(Regression(), tables, "")
    path = tmp_path / "t.json"
    for row, where in (
        ('{"a": 1e200, "label": 2}', "line 2: column 'a' must hold a finite number"),
        ('{"a": -Infinity, "label": 2}', "line 2: column 'a' must hold a finite number"),
        ('{"a": 1, "label": NaN}', "'line 2' has no label"),
        ('{"a": 1, "label": Infinity}', "line 2: the target of a regression must be a finite number"),
    ):
        path.write_text('[{"a": 1, "label": 1}, ' + row + "]")
        with pytest.raises(UserError, match=r"t\.json.*" + where):
            user_task(data.read_user_file(path, Columns(), (2, 10), labelled=True), Regression())
