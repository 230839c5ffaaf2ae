"""Random odd files of texts and tables: nothing is lost, no class is in two splits, training and prediction read alike."""

import csv
import io
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from metaloop.data.episodes import Episodes
from metaloop.data.images.image_folder import ImageFolder
from metaloop.data.labels import plain_label
from metaloop.data.philox import Stream
from metaloop.data.tables.tabular import Tabular
from metaloop.data.texts.text_files import TextFiles
from metaloop.data.user.tasks import Columns, user_task
from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords
from metaloop.problems.baselines import nearest_neighbour, nearest_text
from metaloop.problems.classification import Classification
from metaloop.types import EpisodeSpec

SPLITS = ("train", "validation", "test")
LABELS = ["café", "thé", "1", "2", "true", "天气", "हिन्दी", "a b", "=1+1", "-", "label", "null", "0010", "x,y", 'q"q']
WORDS = [
    "the",
    "key",
    "天气晴朗",
    "हिन्दी",
    "ﬁne",
    "ｗｉｄｅ",
    "e\u0301",
    "\u200b",
    "«»",
    "1_3",
    "two\nlines",
    "\u2028",
    "'",
    '"',
    ",",
    ";\t",
]


def spelled(label: str, draw: random.Random) -> Any:
    """One of the ways in which files write a label."""
    if label.isdigit() and not label.startswith("0"):
        return draw.choice([label, f"{label}.0", f" {label}.00", int(label), float(label)])
    if label == "true":
        return draw.choice(["true", "True", " TRUE", True])
    return draw.choice([label, unicodedata.normalize("NFD", label), f"\u00a0{label}\u200b", label.replace(" ", " \t\u3000")])


def encoded(rows: Sequence[dict[str, Any]], suffix: str, draw: random.Random) -> bytes:
    """The rows as a file: with or without a byte order mark, with any line ends."""
    if suffix in (".csv", ".tsv"):
        text = io.StringIO()
        end = draw.choice(["\n", "\r\n"])
        writer = csv.writer(text, delimiter="," if suffix == ".csv" else "\t", lineterminator=end)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(row.values())
            text.write(draw.choice(["", "", end]))
        content = text.getvalue()
    elif suffix == ".json":
        content = json.dumps(rows, indent=draw.choice([None, 1]), ensure_ascii=draw.random() < 0.5)
    else:
        content = "".join(
            json.dumps(row, ensure_ascii=draw.random() < 0.5) + draw.choice(["\n", "\r\n", "\n\n"]) for row in rows
        )
    return draw.choice([b"", b"\xef\xbb\xbf"]) + content.encode()


@pytest.mark.parametrize("seed", range(24))
def test_odd_texts_are_all_read_and_alike(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    labels = draw.sample(LABELS, draw.randint(3, len(LABELS)))
    rows, often = [], [4.0**k for k in range(len(labels))]  # from one text to most of them in a class
    for number in range(draw.randint(len(labels), 60)):
        label = labels[number] if number < len(labels) else draw.choices(labels, often)[0]
        words = " ".join(draw.choices(WORDS, k=draw.randint(0, 6)))
        rows.append({"id": number, "text": f"w{number} {words}", "label": spelled(label, draw)})
        if draw.random() < 0.3:
            rows.append({**rows[-1], "text": f" {rows[-1]['text']} "})
    draw.shuffle(rows)
    path = tmp_path / f"mine{draw.choice(['.csv', '.tsv', '.json', '.jsonl'])}"
    path.write_bytes(encoded(rows, path.suffix, draw))
    data = TextFiles(HashedWords(500), path.name, str(tmp_path), split_seed=seed, length=8, cache_dir=str(tmp_path / "cache"))
    classes = [(name, texts) for split in SPLITS for name, texts in data.read()[split].classes.items()]
    assert len({name for name, _ in classes}) == len(classes)  # no class in two splits
    expected = Counter((plain_label(row["label"]), row["text"]) for row in rows)
    assert Counter((name, text) for name, texts in classes for text in texts) == expected
    assert {name for name, _ in classes} <= set(labels)
    read = data.read_user_file(path, Columns(), (8,), labelled=True)
    assert list(zip(read.labels, read.captions, strict=True)) == [(plain_label(row["label"]), row["text"]) for row in rows]
    trained = {split: data.split(split) for split in SPLITS}
    counts = data.counts()
    assert sum(count.examples for count in counts.values()) == len(rows)
    assert sum(count.repeated or 0 for count in counts.values()) == len(rows) - len({row["id"] for row in rows})
    assert sum(count.cut or 0 for count in counts.values()) == read.cut
    assert isinstance(read.inputs, dict)
    tokens = torch.cat([trained[split].inputs["input_ids"] for split in SPLITS])  # type: ignore[index, call-overload]
    assert sorted(map(tuple, tokens.tolist())) == sorted(map(tuple, read.inputs["input_ids"].tolist()))


@pytest.mark.parametrize("copies", [1, 3])
def test_noise_is_chance(copies: int, tmp_path: Path) -> None:
    draw = random.Random(copies)
    texts = [(" ".join(f"w{draw.randrange(300)}" for _ in range(8)), f"c{k % 40}") for k in range(400)] * copies
    (tmp_path / "noise.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    data = TextFiles(HashedWords(5000), "noise.csv", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    tasks = Episodes(data.split("train"), EpisodeSpec(5, 1, 5), Stream(0, "train")).tasks(torch.arange(200))
    right = (nearest_text(tasks.support, tasks.query.x).argmax(-1) == tasks.query.y).float().mean()
    assert abs(right - 0.2) < 0.04


@pytest.mark.parametrize("copies", [1, 3])
def test_noise_in_tables_is_chance(copies: int, tmp_path: Path) -> None:
    draw = random.Random(copies)
    rows = [f"{draw.gauss(0, 1)},{draw.choice([draw.gauss(0, 1), ''])},c{draw.randrange(2)}\n" for _ in range(600)] * copies
    (tmp_path / "noise.csv").write_text("a,b,kind\n" + "".join(rows))
    tables = {split: [str(tmp_path / "noise.csv")] if split == "train" else ["iris"] for split in SPLITS}
    pool = Tabular(Classification(), tables, "", label="kind").split("train")
    tasks = Episodes(pool, EpisodeSpec(2, 3, 5), Stream(0, "train")).tasks(torch.arange(200))
    right = (nearest_neighbour(tasks.support, tasks.query.x).argmax(-1) == tasks.query.y).float().mean()
    assert abs(right - 0.5) < 0.06


@pytest.mark.parametrize("copies", [1, 3])
def test_noise_in_pictures_is_chance(copies: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(copies).integers(0, 256, (30, 8, 3, 3), np.uint8)
    for label, pictures in enumerate(noise):
        (tmp_path / "pictures" / f"class{label}").mkdir(parents=True)
        for number, picture in enumerate(pictures):
            for copy in range(copies):
                Image.fromarray(picture).save(tmp_path / "pictures" / f"class{label}" / f"{number}_{copy}.png")
    shares, cache = {"train": 0.8, "validation": 0.1, "test": 0.1}, str(tmp_path / "cache")
    pool = ImageFolder(str(tmp_path / "pictures"), shares, side=3, decoders=0, cache_dir=cache).split("train")
    tasks = Episodes(pool, EpisodeSpec(5, 1, 5), Stream(0, "train")).tasks(torch.arange(200))
    right = (nearest_neighbour(tasks.support, tasks.query.x).argmax(-1) == tasks.query.y).float().mean()
    assert abs(right - 0.2) < 0.04


CELLS: dict[str, Callable[[random.Random], Any]] = {
    "number": lambda draw: draw.choice(
        [draw.randint(-9, 9), draw.random(), f"{draw.random():.3e}", f" {draw.randint(0, 9)}", "", "NA"]
    ),
    "truth": lambda draw: draw.choice([True, False, "true", "FALSE", "", None]),
    "date": lambda draw: draw.choice(
        [f"20{draw.randint(10, 99)}-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}", "2026-01-01T10:00Z", ""]
    ),
    "color": lambda draw: draw.choice(["red", "vert", "VERT", unicodedata.normalize("NFD", "bléu"), "bléu ", "", "NA"]),
    "size": lambda draw: draw.choice([1e90, -1e90, 1e-300, -0.0, 10**15 + draw.randint(0, 9), "1E+3", ""]),
    "time": lambda draw: 1_700_000_000 + draw.randint(0, 600),
}


@pytest.mark.parametrize("seed", range(24))
def test_odd_tables_are_all_read_and_alike(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    names = draw.sample(list(CELLS), draw.randint(1, len(CELLS)))
    labels = draw.sample(["café", "1", "true", "a b"], 2)
    rows = [
        {"id": number, **{name: CELLS[name](draw) for name in names}, "kind": spelled(labels[number % 2], draw)}
        for number in range(draw.randint(30, 60))
    ]
    path = tmp_path / f"mine{draw.choice(['.csv', '.tsv', '.json', '.jsonl'])}"
    path.write_bytes(encoded(rows, path.suffix, draw))
    tables = {split: [str(path)] if split == "train" else ["iris"] for split in SPLITS}
    data = Tabular(Classification(), tables, "", label="kind", ignore=["id"])
    pool = data.split("train")
    columns = Columns(label="kind", ignore=["id"])
    read = data.read_user_file(path, columns, pool.input_shape, labelled=True)
    assert len(read) == len(rows) == data.counts()["train"].examples
    assert [plain_label(row["kind"]) for row in rows] == list(read.labels)
    task = user_task(read, Classification())
    assert isinstance(task.inputs, torch.Tensor)
    real = torch.ones_like(task.y[0], dtype=torch.bool) if task.mask is None else task.mask[0]
    assert torch.equal(task.inputs[0][real].nan_to_num(-7), pool.rows[:, 1:].nan_to_num(-7))
    again = data.read_user_file(
        path, Columns(label="kind", ignore=["id"], encoding=task.encoding), pool.input_shape, labelled=False
    )
    assert again.hashes == read.hashes
    tasks = Episodes(pool, EpisodeSpec(2, 2, 3), Stream(0, "train")).tasks(torch.arange(20))
    assert isinstance(tasks.support.x, torch.Tensor)
    assert tasks.support.x.isfinite().all()
    wrong = draw.randrange(len(rows))
    name = draw.choice([each for each in names if each != "color"] or ["id"])
    rows[wrong][name] = "1_3"
    (tmp_path / "wrong.json").write_text(json.dumps(rows))
    if name != "id":
        with pytest.raises(UserError, match=rf"wrong\.json: line \d+: column '{name}' must hold .*ignore={name}"):
            data.read_user_file(tmp_path / "wrong.json", columns, pool.input_shape, labelled=True)
