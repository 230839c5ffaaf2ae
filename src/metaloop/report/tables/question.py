"""What runs are compared by: the keys of a pivot's rows and columns, asked for or chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaloop.records.runs import Run
from metaloop.report.tables.facts import checked_keys, differing, fact, varied

_WIDEST, _FULL = 8, 0.6  # values of a key that becomes columns where nobody asked, and the share of cells that must be there
_DATA = ("dataset", "episode", "episodes", "setting", "split", "ways", "shots", "queries")


@dataclass(frozen=True)
class Question:
    """What to pivot by; see :func:`metaloop.report.tables.facts.fact` for keys.

    Attributes:
        rows: keys whose combinations are rows.
        columns: keys whose combinations are columns.
        over: keys that are averaged over.
        baseline: of each key that it names its value in the row that all others are compared with; None for none.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    baseline: Mapping[str, str] | None = None


def default_question(
    runs: Sequence[Run], rows: Sequence[str] = (), columns: Sequence[str] = (), over: Sequence[str] = ()
) -> Question | None:
    """What runs are compared by where nobody says: all keys in which they differ, those of the data, else the last, as columns.

    Args:
        runs: at least one.
        rows, columns, over: keys that were named. Columns alone leave the other keys for the rows, rows alone do without
        columns.
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
    own = [key for key in rest if key not in data]
    if own and data:
        return Question(tuple(own), tuple(data), tuple(over))
    wide = len(rest) > 1 and _is_grid(runs, rest)
    return Question(tuple(rest[:-1] if wide else rest), (rest[-1],) if wide else (), tuple(over))


def _enough(runs: Sequence[Run]) -> tuple[str, ...]:
    """The overridden keys, and as many more as tell all settings apart, such as a default that changed between two runs."""
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
    """Whether the last key has few values, and most of them were run with most combinations of the others."""
    cells = {tuple(fact(run, key) for key in keys) for run in runs}
    rows, columns = {cell[:-1] for cell in cells}, {cell[-1] for cell in cells}
    return len(columns) <= _WIDEST and len(cells) >= _FULL * len(rows) * len(columns)


def is_data(key: str) -> bool:
    """Whether a key is of what is learned from, not of what learns."""
    return key.split(".")[0].split("/")[0] in _DATA
