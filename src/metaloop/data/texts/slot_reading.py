"""Utterances with their slots, in the format of Goo et al. (2018): ``label``, ``seq.in``, ``seq.out``, a line an utterance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text

FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
OUTSIDE = ""  # the slot of a word that fills none


@dataclass(frozen=True)
class Utterance:
    """A sentence.

    Attributes:
        intent: what it is to achieve.
        words: of it.
        slots: which slot each word fills, :data:`OUTSIDE` for none.
    """

    intent: str
    words: tuple[str, ...]
    slots: tuple[str, ...]


def read_utterances(place: Path, name: str, split: str) -> list[Utterance]:
    """The utterances of ``name``/<folder of the split> in the folder or archive ``place``.

    Raises:
        UserError: a file is missing or broken, the files do not fit each other, or a tag is none.
    """
    files = [read_text(place, f"{name}/{FOLDERS[split]}/{part}", ORIGINS["slots"]) for part in ("label", "seq.in", "seq.out")]
    lines = [file.lines() for file in files]
    for file, found in zip(files, lines, strict=True):
        if len(found) != len(lines[1]):
            raise file.problem(f"{len(found)} lines, where seq.in has {len(lines[1])}")
        if not found:
            raise file.problem("no line")
    return [_utterance(files, number, *parts) for number, parts in enumerate(zip(*lines, strict=True), 1)]


def _utterance(files: Sequence[TextFile], line: int, label: str, text: str, tags: str) -> Utterance:
    intent, words = files[0].sentence(label, line).strip(), files[1].sentence(text, line).split()
    slots = [_slot(files[2], line, tag) for tag in files[2].sentence(tags, line).split()]
    if len(slots) != len(words):
        raise files[2].problem(f"{len(slots)} tags, where seq.in has {len(words)} words", line)
    return Utterance(intent, tuple(words), tuple(slots))


def _slot(file: TextFile, line: int, tag: str) -> str:
    place, _, slot = tag.partition("-")
    if tag == "O":
        return OUTSIDE
    if place not in ("B", "I") or not slot:
        raise file.problem(f"tag {tag!r}: O, B-SLOT or I-SLOT is expected", line)
    return slot
