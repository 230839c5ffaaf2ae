"""Markdown tables with escaped cells."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def escape(text: str) -> str:
    """Escape text so that Markdown shows it unchanged, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a pipe table with escaped cells; it ends in a line break."""
    return escaped_table([escape(cell) for cell in headers], [[escape(cell) for cell in row] for row in rows])


def escaped_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a pipe table of cells that are Markdown already."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (headers, *rows)]
    lines.insert(1, "|" + " --- |" * len(headers))
    return "\n".join(lines) + "\n"
