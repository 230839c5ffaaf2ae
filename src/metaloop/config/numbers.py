"""Numbers of a run's config that are checked before anything is imported or written."""

import re
from collections.abc import MutableMapping
from typing import Any

from metaloop.errors import UserError

_LEAST = {  # whole numbers, by key
    "seed": 0,
    "log_every": 1,
    "workers": 0,
    "outer.meta_batch": 1,
    "trainer.max_steps": 1,
    "validation.every": 1,
    "validation.episodes": 2,
    "evaluation.episodes": 2,
    "evaluation.batch": 1,
    "evaluation.seed": 0,
}


def check_numbers(config: MutableMapping[str, Any]) -> None:
    """Check whole numbers and their least values. Digits in a text, as ``${oc.env:SEED}`` gives, become a number in place.

    Raises:
        UserError: a number is missing, is no whole number, or is too small.
    """
    for key, least in _LEAST.items():
        *sections, name = key.split(".")
        node: Any = config
        for section in sections:
            node = node.get(section) if isinstance(node, MutableMapping) else None
        if not isinstance(node, MutableMapping) or name not in node:
            raise UserError(f"{key} is missing; set it to a whole number of at least {least}")
        value = node[name]
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
            value = node[name] = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{key}={value!r}: a whole number of at least {least}")
