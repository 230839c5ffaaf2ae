"""Values of a sweep as text on the command line."""

import re
from typing import Any


def override_text(value: Any) -> str:
    """Write a value in the form in which it is typed after ``key=`` on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(override_text(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, str) and any(special in value for special in ",'\"\\[]{}()=: $"):
        # Hydra reads a backslash literally, except before a quote or at the end.
        quoted = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")
        return f"'{quoted}'"
    return str(value)
