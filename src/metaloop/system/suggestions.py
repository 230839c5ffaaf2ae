"""The nearest valid names of a mistyped one, for error messages."""

from collections.abc import Iterable
from difflib import SequenceMatcher

_ALIKE = 0.7  # share of letters in common from which names count as near
_AS_GOOD = 0.1  # how much worse than the best a further suggestion may be
_LAST_PART = 0.95  # how much a match of the last part alone counts


def nearest(received: str, allowed: Iterable[str], most: int = 3) -> list[str]:
    """Up to ``most`` of the ``allowed`` names that look like ``received``, best first; where none does, perhaps one.

    A dotted key is also compared by its last part alone, so that ``lr`` finds ``outer.optimizer.lr``. Of a key and
    the keys inside it only the better match is named.
    """
    scores = {name: _likeness(received, name) for name in allowed}
    best = max(scores.values(), default=0.0)
    kept: list[str] = []
    for name in sorted(scores, key=lambda name: -scores[name]):
        near = scores[name] >= max(_ALIKE, best - _AS_GOOD)
        if near and not any(_inside(name, other) or _inside(other, name) for other in kept):
            kept.append(name)
    return kept[:most] or [name for name in scores if scores[name] == best >= 0.5][:1]


def _likeness(received: str, name: str) -> float:
    whole = SequenceMatcher(None, received, name).ratio()
    last = SequenceMatcher(None, received.rpartition(".")[2], name.rpartition(".")[2]).ratio()
    return max(whole, _LAST_PART * last)


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
