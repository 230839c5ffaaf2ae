"""Valid names that resemble a mistyped one, for error messages."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher

_SIMILAR = 0.7  # least share of letters in common for a suggestion
_TOLERANCE = 0.1  # how much worse than the best a further suggestion may be
_LAST_PART = 0.95  # weight of a match of the last part alone
_BEGINNING = 0.9  # score of a name that begins with what was received, of at least this many letters:
_LETTERS = 3
_NONE: Mapping[str, Sequence[str]] = {}
_LONG = 20  # names that a message lists at most


def nearest(received: str, allowed: Iterable[str], most: int = 3) -> list[str]:
    """Find up to ``most`` of the ``allowed`` names that resemble ``received``, best first.

    If none resembles it closely, the best one is returned if at least half of its letters agree. Capitals do not count. A
    dotted key is also compared by its last part alone, so that ``lr`` finds ``outer.optimizer.lr``. A name that begins with
    ``received`` resembles it. Of a key and the keys inside it only the better match is returned.
    """
    scores = {name: _likeness(received, name) for name in allowed}
    best = max(scores.values(), default=0.0)
    kept: list[str] = []
    for name in sorted(scores, key=lambda name: -scores[name]):
        near = scores[name] >= max(_SIMILAR, best - _TOLERANCE)
        if near and not any(_inside(name, other) or _inside(other, name) for other in kept):
            kept.append(name)
    return kept[:most] or [name for name in scores if scores[name] == best >= 0.5][:1]


def _likeness(received: str, name: str) -> float:
    received, name = received.casefold(), name.casefold()
    begins = len(received) >= _LETTERS and name.startswith(received)
    whole = SequenceMatcher(None, received, name).ratio()
    last = SequenceMatcher(None, received.rpartition(".")[2], name.rpartition(".")[2]).ratio()
    return max(whole, _LAST_PART * last, _BEGINNING if begins else 0.0)


def _inside(key: str, section: str) -> bool:
    return key.startswith((f"{section}.", f"{section}/"))


def did_you_mean(received: str, allowed: Iterable[str], prefix: str = "", also: Mapping[str, Sequence[str]] = _NONE) -> str:
    """Format suggestions such as ``did you mean maml? ``; empty if no name is near.

    Args:
        received: Name that was typed.
        allowed: Valid names.
        prefix: Text before every suggestion, such as ``algorithm=``.
        also: Other words for some names, in lower case with underscores; the first of their names that is valid is suggested.
    """
    valid = list(allowed)
    words = also.get(received.rpartition(".")[2].casefold().replace("-", "_"), ())
    names = [name for name in words if name in valid][:1] or nearest(received, valid)
    return f"did you mean {' or '.join(prefix + name for name in names)}? " if names else ""


def listed(names: Sequence[str], command: str) -> str:
    """Names for a message; of a long list only the number, with the command that shows it."""
    if len(names) > _LONG:
        return f"{len(names)}, see {command}"
    return ", ".join(names) or "none"
