"""Text from files on a terminal."""

import unicodedata

_ORDER = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # they change the order of what is shown


def printable(text: str) -> str:
    """The text with control characters as escapes such as ``\\x1b``; line ends and tabs stay.

    A terminal obeys control characters, so names and messages from a stranger's files must not hold any.
    """
    return "".join(_escaped(each) if _is_control(each) else each for each in text)


def _is_control(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _ORDER or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", errors="surrogatepass").decode("ascii")
