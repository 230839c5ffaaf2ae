"""Small data sets of texts in their official formats, made for a test."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.data.clinc150 import DOMAINS


class Characters:
    """A tokeniser: a token is a character, its id the code point."""

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
    """A text from its :class:`Characters`."""
    return "".join(chr(code) for code in ids.tolist() if code)


def clinc150() -> dict[str, bytes]:
    """``data_full.json`` and ``domains.json``; text k of intent i of domain d is ``d_i text k``."""
    domains = {name: [f"{name}_{k}" for k in range(15)] for names in DOMAINS.values() for name in names}
    content: dict[str, list[list[str]]] = {}
    for part, start, stop in (("val", 100, 120), ("train", 0, 100), ("test", 120, 150)):
        intents = [intent for names in domains.values() for intent in names]
        content[part] = [[f"{intent} text {k}", intent] for k in range(start, stop) for intent in intents]
    for part, count in (("oos_val", 3), ("oos_train", 3), ("oos_test", 7)):
        content[part] = [[f"{part} {k}", "oos"] for k in range(count)]
    return {"data_full.json": json.dumps(content).encode(), "domains.json": json.dumps(domains).encode()}


def write_folder(place: Path, files: Mapping[str, bytes]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place
