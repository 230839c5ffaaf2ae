"""Values as they are typed on a command line."""

import re
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
        quoted = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")  # elsewhere Hydra reads backslashes as they are
        return f"'{quoted}'"
    return str(value)
