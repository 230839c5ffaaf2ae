"""Small synthetic text data sets in their official formats."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.data.texts.clinc150 import DOMAINS


class Characters:
    """A tokenizer whose tokens are characters and whose ids are their code points."""

    key = "characters"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, texts: Sequence[str], length: int) -> Mapping[str, np.ndarray]:
        self.calls += 1
        ids, mask = (np.zeros((len(texts), length), np.int64) for _ in range(2))
        for row, text in enumerate(texts):
            codes = [ord(letter) for letter in text[:length]]
            ids[row, : len(codes)], mask[row, : len(codes)] = codes, 1
        return {"input_ids": ids, "attention_mask": mask}

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Mapping[str, np.ndarray]:
        raise NotImplementedError


def decoded(ids: Any) -> str:
    """Decode the tokens of :class:`Characters`."""
    return "".join(chr(code) for code in ids.tolist() if code)


def clinc150() -> dict[str, bytes]:
    """Write ``data_full.json`` and ``domains.json``; text k of intent i of domain d is ``d_i text k``."""
    domains = {name: [f"{name}_{k}" for k in range(15)] for names in DOMAINS.values() for name in names}
    content: dict[str, list[list[str]]] = {}
    for part, start, stop in (("val", 100, 120), ("train", 0, 100), ("test", 120, 150)):
        intents = [intent for names in domains.values() for intent in names]
        content[part] = [[f"{intent} text {k}", intent] for k in range(start, stop) for intent in intents]
    for part, count in (("oos_val", 4), ("oos_train", 3), ("oos_test", 7)):
        content[part] = [[f"{part} {k}", "oos"] for k in range(count)]
    return {"data_full.json": json.dumps(content).encode(), "domains.json": json.dumps(domains).encode()}


def write_folder(place: Path, files: Mapping[str, bytes]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


def json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def news(classes: int, texts: int, key: str = "text") -> list[dict[str, Any]]:
    """Make rows of Bao et al.'s format; text k of class c is ``c<c> text <k>``, as a list of words or joined under ``raw``."""
    rows = [(f"c{c} text {k}", c) for k in range(texts) for c in range(classes)]
    return [{key: text if key == "raw" else text.split(), "label": c} for text, c in rows]


def fewrel(first: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """Make relations ``P<first>`` and so on of two sentences each; the head is two words, the tail one."""
    sentence = {"tokens": ["Ann", "Lee", "was", "born", "in", "Rome"], "h": ["ann lee", "Q1", [[0, 1]]]}
    return {f"P{number}": [{**sentence, "t": ["rome", "Q2", [[5]]]}] * 2 for number in range(first, first + count)}


def arsc() -> dict[str, bytes]:
    """Write five domains for training and validation and one for meta-test, two reviews of a class in each file."""
    domains = ["books", "baby", "camera", "cellphones", "dvd2", "toys"]
    files = {
        "workspace.filtered.list": "".join(f"{name}\n" for name in domains).encode(),
        "workspace.target.list": b"books\n",
    }
    for domain in domains:
        for threshold in ("t2", "t4", "t5"):
            for part in ("train", "dev", "test"):
                lines = [f"{part} {k} of {domain}\t{label}\n" for k in range(2) for label in ("1", "-1")]
                files[f"{domain}.{threshold}.{part}"] = "".join(lines).encode()
    return files


def write_official(data: Path) -> None:
    """Write to ``data/text`` small sets with the formats and class counts of the data sets that may not be redistributed."""
    text = data / "text"
    intents = [(f"ask {k} for intent {c}", f"intent {c}") for c in range(77) for k in range(6)]
    header = b"text,category\n"
    for part, rows in (("train", intents[::2]), ("test", intents[1::2])):
        lines = "".join(f"{sentence},{label}\n" for sentence, label in rows)
        write_folder(text / "banking77", {f"{part}.csv": header + lines.encode()})
    rows = [{"sentence": sentence, "label": label} for sentence, label in intents if int(label.split()[1]) < 64]
    parts = {"train": range(16), "valid": range(16, 39), "test": range(39, 64)}
    lists = {f"labels.{part}.txt": "".join(f"intent {c}\n" for c in numbers).encode() for part, numbers in parts.items()}
    write_folder(text / "hwu64", {"full.jsonl": json_lines(rows), **lists})
    relations = {"train_wiki.json": fewrel(100, 20), "val_wiki.json": fewrel(200, 4)}
    many = {name: {key: sentences * 3 for key, sentences in found.items()} for name, found in relations.items()}
    write_folder(text / "fewrel", {name: json.dumps(found).encode() for name, found in many.items()})
    write_folder(text / "arsc", arsc())
    write_folder(text / "own", {"own.csv": b"text,label\n" + "".join(f"{s},{label}\n" for s, label in intents).encode()})
