"""The nearest valid names of a mistyped one, for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(received: str, allowed: Iterable[str], most: int = 3) -> list[str]:
    """Up to ``most`` of the ``allowed`` names that look like ``received``, best first.

    A dotted key is also compared by its last part alone, so that ``lr`` finds ``outer.optimizer.lr``. Of a key and
    the keys inside it only the better match is named.
    """
    names = list(allowed)
    whole = get_close_matches(received, names, n=most, cutoff=0.7)
    by_last_part: dict[str, list[str]] = {}
    for name in names:
        by_last_part.setdefault(name.rpartition(".")[2], []).append(name)
    last = get_close_matches(received.rpartition(".")[2], by_last_part, n=most, cutoff=0.8)
    found = whole + [name for part in last for name in by_last_part[part]]
    kept: list[str] = []
    for name in dict.fromkeys(found or get_close_matches(received, names, n=1, cutoff=0.5)):
        if not any(_inside(name, other) or _inside(other, name) for other in kept):
            kept.append(name)
    return kept[:most]


def _inside(key: str, section: str) -> bool:
    return key.startswith((f"{section}.", f"{section}/"))


def did_you_mean(received: str, allowed: Iterable[str], prefix: str = "") -> str:
    """A question such as ``did you mean maml? ``, or an empty string where nothing is near.

    Args:
        received: what was typed.
        allowed: what is valid.
        prefix: written before every suggestion, such as ``algorithm=``.
    """
    names = nearest(received, allowed)
    return f"did you mean {' or '.join(prefix + name for name in names)}? " if names else ""
