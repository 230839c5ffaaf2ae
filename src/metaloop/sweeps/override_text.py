"""Values of a sweep as text on the command line."""

import re
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def override_text(value: Any) -> str:
    """Write a value in the form in which it is typed after ``key=`` on the command line; text stays text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(override_text(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_text(each)}" for key, each in value.items()) + "}"
    return value if isinstance(value, str) and _is_plain(value) else _quoted(value) if isinstance(value, str) else str(value)


def _quoted(value: str) -> str:
    # Hydra reads a backslash literally, except before a quote or at the end.
    text = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")
    return f"'{text}'"


@lru_cache(maxsize=10_000)
def _is_plain(value: str) -> bool:
    """Whether Hydra reads the text as it stands; not ``null``, ``1e3``, a sweep, or letters that its grammar lacks."""
    if any(special in value for special in ",'\"\\[]{}()=: $"):
        return False
    try:
        return bool(OverridesParser.create().parse_override(f"key={value}").value() == value)
    except HydraException:
        return False
