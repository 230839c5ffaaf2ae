"""The keys of a pivot's rows and columns: given by the user, or chosen from the runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaloop.records.runs import Run
from metaloop.report.tables.facts import checked_keys, differing, fact, varied

_WIDEST, _FULL = 8, 0.6  # for a key to become columns by default: its most values, and the least share of non-empty cells
_DATA = ("dataset", "episode", "episodes", "setting", "split", "ways", "shots", "queries")


@dataclass(frozen=True)
class Question:
    """The keys of a pivot; :func:`metaloop.report.tables.facts.fact` lists the possible ones.

    Attributes:
        rows: keys whose combinations are rows.
        columns: keys whose combinations are columns.
        over: keys that are averaged over.
        baseline: key and value of the row that all others are compared with; None for no comparison.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    baseline: Mapping[str, str] | None = None


def default_question(
    runs: Sequence[Run], rows: Sequence[str] = (), columns: Sequence[str] = (), over: Sequence[str] = ()
) -> Question | None:
    """Choose the keys of a pivot that were not given.

    By default these are all keys in which the runs differ. Keys of the data become columns; if there are none, the last
    key does, provided that the runs form a grid.

    Args:
        runs: at least one.
        rows, columns, over: the given keys. With columns alone, the other keys become rows; with rows alone, there are no
            columns.

    Returns:
        The keys; None if the runs do not differ.
    """
    named = checked_keys(runs, (*rows, *columns, *over))
    rest = [key for key in (varied(runs) if named else _enough(runs)) if key not in named]
    if rows:
        return Question(tuple(rows), tuple(columns), tuple(over))
    if columns:
        return Question(tuple(rest) or ("name",), tuple(columns), tuple(over))
    if not rest:
        return None
    data = [key for key in rest if is_data(key)]
    method = [key for key in rest if key not in data]
    if method and data:
        return Question(tuple(method), tuple(data), tuple(over))
    wide = len(rest) > 1 and _is_grid(runs, rest)
    return Question(tuple(rest[:-1] if wide else rest), (rest[-1],) if wide else (), tuple(over))


def _enough(runs: Sequence[Run]) -> tuple[str, ...]:
    """Overridden keys, and as many others as separate all settings, such as a default that changed between two runs."""
    keys = varied(runs)
    cells = {run.setting_key: tuple(fact(run, key) for key in keys) for run in runs}
    if not keys or len(set(cells.values())) == len(cells):
        return keys
    for key in differing(runs):
        finer = {run.setting_key: (*cells[run.setting_key], fact(run, key)) for run in runs}
        if len(set(finer.values())) > len(set(cells.values())):
            keys, cells = (*keys, key), finer
    return keys


def _is_grid(runs: Sequence[Run], keys: Sequence[str]) -> bool:
    """Whether the last key has few values, and most of these were run with most combinations of the other keys."""
    cells = {tuple(fact(run, key) for key in keys) for run in runs}
    rows, columns = {cell[:-1] for cell in cells}, {cell[-1] for cell in cells}
    return len(columns) <= _WIDEST and len(cells) >= _FULL * len(rows) * len(columns)


def is_data(key: str) -> bool:
    """Whether a key describes the data rather than the learner."""
    return key.split(".")[0].split("/")[0] in _DATA
