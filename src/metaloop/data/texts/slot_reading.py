"""Reading of utterances with slots (Goo et al. 2018): files ``label``, ``seq.in`` and ``seq.out``, one line an utterance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text

FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
OUTSIDE = ""  # slot of a word that fills no slot


@dataclass(frozen=True)
class Utterance:
    """A sentence with an intent and slots.

    Attributes:
        intent: intent of the utterance.
        words: words of the utterance.
        slots: the slot that each word fills; :data:`OUTSIDE` for none.
    """

    intent: str
    words: tuple[str, ...]
    slots: tuple[str, ...]


def read_utterances(place: Path, name: str, split: str) -> list[Utterance]:
    """Read the utterances in ``name``/<folder of the split> of the folder or archive ``place``.

    Raises:
        UserError: a file is missing or broken, the files have different numbers of lines or words, or a tag is invalid.
    """
    files = [read_text(place, f"{name}/{FOLDERS[split]}/{part}", ORIGINS["slots"]) for part in ("label", "seq.in", "seq.out")]
    lines = [file.lines() for file in files]
    for file, file_lines in zip(files, lines, strict=True):
        if len(file_lines) != len(lines[1]):
            raise file.problem(f"{len(file_lines)} lines, but seq.in has {len(lines[1])}")
        if not file_lines:
            raise file.problem("the file is empty")
    return [_utterance(files, number, *parts) for number, parts in enumerate(zip(*lines, strict=True), 1)]


def _utterance(files: Sequence[TextFile], line: int, label: str, text: str, tags: str) -> Utterance:
    intent, words = files[0].sentence(label, line).strip(), files[1].sentence(text, line).split()
    slots = [_slot(files[2], line, tag) for tag in files[2].sentence(tags, line).split()]
    if len(slots) != len(words):
        raise files[2].problem(f"{len(slots)} tags, but seq.in has {len(words)} words", line)
    return Utterance(intent, tuple(words), tuple(slots))


def _slot(file: TextFile, line: int, tag: str) -> str:
    prefix, _, slot = tag.partition("-")
    if tag == "O":
        return OUTSIDE
    if prefix not in ("B", "I") or not slot:
        raise file.problem(f"tag {tag!r} must be O, B-SLOT or I-SLOT", line)
    return slot
