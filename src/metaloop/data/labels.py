"""The one spelling of labels in users' files, so that labels that look alike are one class wherever they are read."""

import logging
import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)

_NAMED = 3  # groups that a warning names
_WHOLE = re.compile(r"([+-]?[0-9]+)[.]0+")
_JOINERS = "\u200c\u200d"  # invisible, but they change how Persian and Indic words are written
_TRUTH = ("true", "false")


def plain_label(value: Any) -> str | None:
    """Return the one spelling of a label; None for an empty cell, JSON's null or NaN.

    Characters are composed (Unicode NFC), invisible ones removed, and runs of blanks of any kind are one space, none at the
    ends. A whole number has no decimals, as programs write them if labels of other rows are missing: 1.0 is "1". Truth values
    are "true" and "false", however a program wrote them.

    Raises:
        TypeError: the value is neither a text, nor a number, nor a truth value.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no label")
    return _plain(str(value)) or None


def plain_name(name: str) -> str:
    """Return a class's name, such as a folder's, in the one spelling of :func:`plain_label`; a blank name is left as it is."""
    return plain_label(name) or name


def tell_alike(labels: Iterable[str], place: str) -> None:
    """Warn of labels that differ only in case, or in the width and form of characters: they stay different classes.

    Args:
        labels: labels in their one spelling.
        place: where they stand, for the message.
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        groups.setdefault(unicodedata.normalize("NFKC", label).casefold(), []).append(label)
    pairs = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if pairs:
        more = f" and {len(pairs) - _NAMED} more such groups" if len(pairs) > _NAMED else ""
        log.warning("%s: %s%s are different classes, though they look alike", place, "; ".join(pairs[:_NAMED]), more)


def plain_text(text: str) -> str:
    """Return what a reader sees of a text: composed characters (NFC) without invisible ones, and single spaces."""
    if text.isascii():
        return " ".join(text.split())
    shown = "".join(c for c in unicodedata.normalize("NFC", text) if c in _JOINERS or unicodedata.category(c) != "Cf")
    return " ".join(shown.split())


def _plain(text: str) -> str:
    words = plain_text(text).strip(_JOINERS + " ")
    whole = _WHOLE.fullmatch(words)
    if whole:
        return whole[1]
    return words.lower() if words.lower() in _TRUTH else words
