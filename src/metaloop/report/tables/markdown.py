"""Markdown tables whose cells cannot break them."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table, escaped, ending in a line break."""
    return escaped_table([escape(cell) for cell in headers], [[escape(cell) for cell in row] for row in rows])


def escaped_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same of cells that are Markdown already."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (headers, *rows)]
    lines.insert(1, "|" + " --- |" * len(headers))
    return "\n".join(lines) + "\n"
