"""What a config from somebody else must not name: the values that need trust, found without importing anything."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from metaloop.config.folder import conf_dir
from metaloop.config.targets.allowed import ALL
from metaloop.config.targets.torch_classes import TORCH_CLASSES
from metaloop.errors import UserError

_LIGHTNING = "pytorch_lightning"
_TRAINER_KEYS = {
    "_target_", "accelerator", "devices", "strategy", "precision", "gradient_clip_algorithm", "deterministic",
}  # fmt: skip
_DEEPEST = 60  # levels of a config


class Untrusted(UserError):
    """A config from elsewhere asks for what is not trusted."""


@dataclass(frozen=True)
class Refusal:
    """A value that a config from elsewhere must not have.

    Attributes:
        key: Dotted key of the value.
        value: The value.
        package: Package to trust for it; :data:`ALL` if it is not about a package.
        reason: What would happen, as the end of a sentence.
    """

    key: str
    value: object
    package: str
    reason: str


def refusals(config: Mapping[str, Any], source: Path) -> list[Refusal]:
    """Everything in a config that needs trust, in the order of its keys.

    Raises:
        Untrusted: the config is nested too deeply.
    """
    refused = [one for keys, value in _values(config, source) if (one := _refusal(keys, value)) is not None]
    trainer = config.get("trainer")
    for name, value in trainer.items() if isinstance(trainer, Mapping) else ():
        if name not in _TRAINER_KEYS and isinstance(value, str | Mapping | list) and value:
            reason = "a setting of Lightning that can write files"
            refused.append(Refusal(f"trainer.{name}", value, _LIGHTNING, reason))
    return refused


def _refusal(keys: tuple[str, ...], value: object) -> Refusal | None:
    """The reason against one value; None for a harmless one."""
    if keys[-1] == "_target_":
        if isinstance(value, str) and (value in TORCH_CLASSES or value in _own_classes()):
            return None
        return Refusal(".".join(keys), value, str(value).partition(".")[0], "which would be called")
    if isinstance(value, str) and "${" in value:
        return Refusal(".".join(keys), value, ALL, "which would be evaluated")
    if keys[-1] == "cache_dir" and value is not None:
        return Refusal(".".join(keys), value, ALL, "a folder that would be written to")
    return None


def _values(config: Mapping[str, Any], source: Path) -> Iterator[tuple[tuple[str, ...], object]]:
    """All values of a nested config with their keys, without recursion."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), config)]
    while waiting:
        keys, node = waiting.pop()
        if len(keys) > _DEEPEST:
            raise Untrusted(f"{source}: {'.'.join(keys[:4])}... is nested more than {_DEEPEST} levels deep; no run is")
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        inner = []
        for name, value in items:
            below = (*keys, str(name))
            if "${" in below[-1]:
                yield below, below[-1]
            yield below, value
            if isinstance(value, Mapping | list | tuple):
                inner.append((below, value))
        waiting += reversed(inner)


@cache
def _own_classes() -> frozenset[str]:
    """The classes of metaloop that its own configuration names."""
    texts = (path.read_text() for path in conf_dir().rglob("*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"^\s*_target_: *(metaloop\.[\w.]+)", text, re.MULTILINE))
