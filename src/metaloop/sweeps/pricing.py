"""What the runs of a sweep will take, by trying one run of each kind."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metaloop.records.schema import RunIdentity
from metaloop.records.typed_json import decode
from metaloop.sweeps.ledger import Planned

if TYPE_CHECKING:  # it imports Lightning
    from metaloop.training.trial import Trial

MOST = 4  # kinds of runs that are tried; a trial takes some ten seconds
_SAME = ("seed", "name", "notes")  # keys of the config that do not change what a run takes


@dataclass(frozen=True)
class Price:
    """What the runs of a sweep take.

    Attributes:
        seconds: Sum over all runs, one after another.
        memory: Bytes of the run that takes most.
        tried: Number of kinds of runs that were tried.
        kinds: Number of kinds; the runs of the others count as the mean of the tried ones.
    """

    seconds: float
    memory: int
    tried: int
    kinds: int


def priced(runs: Sequence[Planned], try_out: Callable[[RunIdentity], "Trial"]) -> Price:
    """Try the most frequent kinds of runs.

    Args:
        runs: The runs, at least one.
        try_out: Tries a run.

    Raises:
        UserError: a run cannot be built or trained.
    """
    kinds: dict[str, list[Planned]] = {}
    for one in runs:
        kinds.setdefault(kind(one.description["config"]), []).append(one)
    frequent = sorted(kinds.values(), key=len, reverse=True)[:MOST]
    trials = [(try_out(decode(RunIdentity, each[0].description, each[0].directory)), len(each)) for each in frequent]
    tried = sum(count for _, count in trials)
    seconds = sum(trial.seconds * count for trial, count in trials)
    return Price(seconds * len(runs) / tried, max(trial.memory for trial, _ in trials), len(trials), len(kinds))


def kind(config: Mapping[str, Any]) -> str:
    """Text that is the same for runs that take the same: all but seeds, names and numbers that are no counts, such as rates."""
    return json.dumps(_without_rates({key: value for key, value in config.items() if key not in _SAME}), sort_keys=True)


def _without_rates(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_rates(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_rates(each) for each in value]
    return None if isinstance(value, float) else value
