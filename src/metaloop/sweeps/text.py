"""Values as they are typed on a command line."""

from typing import Any


def text(value: Any) -> str:
    """A value of a sweep as it is typed after ``key=``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(text(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str) and any(mark in value for mark in ",'\"\\[]{}()=: $"):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    return str(value)
