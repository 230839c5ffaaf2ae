"""Cells of CSV files that people open in a spreadsheet."""

import re
from typing import Any

_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def safe_cell(value: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not run.

    A text that begins like a formula (``=``, ``+``, ``-``, ``@``, a tab or carriage return) gets an apostrophe in front, which
    spreadsheets take as "this is text". Numbers, also as text, and all other values are returned as they are.
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
