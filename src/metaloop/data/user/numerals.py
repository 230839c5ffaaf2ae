"""Numbers in users' files, as people and programs write them: stricter than Python's ``float``."""

import math
import re
from typing import Any

_NUMERAL = re.compile(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_MISSING = ("", "nan", "na", "n/a", "null")  # written by programs for a missing number
EXPECTED = "a finite number such as 12, -0.5 or 1e-3"
LARGEST = 1e100  # size of a number whose square, and the sum of many, is still finite


def finite_number(value: Any) -> float | None:
    """Convert a cell to a number; None if it is none, or beyond :data:`LARGEST`.

    ``float`` would also take codes such as 1_3 (as 13), ``infinity``, and digits of other scripts.
    """
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if _NUMERAL.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) <= LARGEST else None


def is_missing(value: Any) -> bool:
    """Whether a cell of a column of numbers is empty, or says ``nan``, ``NA``, ``N/A`` or ``null``."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in _MISSING


def is_infinite(value: Any) -> bool:
    """Whether a cell is infinity, or its name in the way of programs."""
    return isinstance(value, float | str) and _INFINITE.fullmatch(str(value).strip()) is not None
