"""Words of a text in any script, for tokenizers without a vocabulary."""

import re
import unicodedata
from functools import lru_cache
from itertools import groupby, pairwise

_ASCII_WORD = re.compile(r"\w+|[^\w\s]")
# Letters of two widths, and letters by their form within a word, which some programs store instead of the letters.
_FORMS = re.compile("[\uff00-\uffef\ufb50-\ufdff\ufe70-\ufefe]+")
_JOINERS = "\u200c\u200d"  # within words of Persian and Indic scripts, where many writers leave them out
# Scripts whose words are not separated by blanks, by their blocks: Thai and Lao, Burmese, Khmer, kana and bopomofo, Han, Yi.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3041, 0x312F),
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0xA48F),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_SPACE, _OTHER, _WORD, _MARK, _DENSE = range(5)


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words and single punctuation marks.

    Accents and vowel signs belong to the word of their letter, in whichever of Unicode's forms they are stored (NFC). In a
    script without blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) the tokens are the pairs of neighbouring
    characters, each with its signs; a character that stands alone is one token.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    text = lower_case(text)
    words: list[str] = []
    for kind, characters in groupby(_clusters(text), lambda each: each[0]):
        parts = [part for _, part in characters]
        if kind == _WORD:
            words.append("".join(parts))
        elif kind == _DENSE:
            words += [a + b for a, b in pairwise(parts)] or parts
        elif kind == _OTHER:
            words += parts
    return words


def lower_case(text: str) -> str:
    """Lower the case of a text, with its characters composed (NFC), and in their usual form and width."""
    if text.isascii():
        return text.lower()
    usual = _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", usual).lower()


def _clusters(text: str) -> list[tuple[int, str]]:
    """Kind and text of every character together with the marks that follow a letter."""
    clusters: list[tuple[int, str]] = []
    for character in text:
        kind = _kind(character)
        letter = bool(clusters) and clusters[-1][0] in (_WORD, _DENSE)
        if letter and kind == _MARK:
            clusters[-1] = (clusters[-1][0], clusters[-1][1] + character)
        elif not (letter and character in _JOINERS):
            clusters.append((_OTHER if kind == _MARK else kind, character))
    return clusters


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> int:
    if unicodedata.category(character).startswith("M"):
        return _MARK
    if character.isalnum() or character == "_":
        code = ord(character)
        return _DENSE if any(first <= code <= last for first, last in _UNSPACED) else _WORD
    return _SPACE if character.isspace() else _OTHER
