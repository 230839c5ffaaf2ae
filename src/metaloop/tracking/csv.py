"""The tracker that writes ``metrics.csv``, which resumed runs and reports read."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.system.files import write_atomically
from metaloop.tracking.tracker import RunInfo, Tracker


class CsvTracker(Tracker):
    """Tracker that writes ``metrics.csv``: one row for each call, flushed at once.

    The first column is ``step``; a cell is empty if the metric was not logged. A resumed run's file equals that of a run that
    was never stopped, if the metrics are equal.
    """

    def __init__(self) -> None:
        self._path = Path()
        self._columns: list[str] = []
        self._file: io.TextIOWrapper | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file; on resume drop the rows after ``resumed_step`` and a last line that was cut off.

        Raises:
            UserError: a line of a resumed run's file is damaged.
        """
        self._path = run.directory / "metrics.csv"
        self._columns = ["step"]
        rows: list[list[str]] = []
        if run.resumed_step and self._path.exists():
            lines = self._path.read_text().splitlines(keepends=True)
            complete = lines[:-1] if lines and not lines[-1].endswith("\n") else lines
            table = list(csv.reader(complete))
            self._columns = table[0] if table else ["step"]
            rows = [row for row in self._checked(table[1:]) if int(row[0]) <= run.resumed_step]
        self._rewrite(rows)

    def _checked(self, rows: list[list[str]]) -> list[list[str]]:
        for number, row in enumerate(rows, start=2):
            if len(row) != len(self._columns) or not row[0].isdigit():
                raise UserError(f"{self._path}, line {number} is damaged: {','.join(row)!r}; remove it, then resume again")
        return rows

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a row; a new metric adds a column, which is empty in the earlier rows."""
        new = [name for name in metrics if name not in self._columns]
        if new:
            self._add_columns(new)
        cells = {name: repr(float(value)) for name, value in metrics.items()} | {"step": str(step)}
        assert self._file is not None, "log before start"
        self._file.write(_line([cells.get(name, "") for name in self._columns]))
        self._file.flush()

    def _add_columns(self, names: list[str]) -> None:
        rows = list(csv.reader(self._path.read_text().splitlines()))[1:]
        self._columns = self._columns + names
        self._rewrite([row + [""] * len(names) for row in rows])

    def _rewrite(self, rows: list[list[str]]) -> None:
        """Replace the file by header and rows atomically, and reopen it to append."""
        self._close()
        text = "".join(_line(row) for row in [self._columns, *rows])
        write_atomically(self._path, text)
        self._file = self._path.open("a", newline="")

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def rows_until(path: Path, last: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Outer step and metrics of the rows of ``metrics.csv`` up to outer step ``last``; none if the file is missing."""
    if not last or not path.exists():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    for row in csv.DictReader(lines):
        step = int(row.pop("step"))
        if step <= last:
            yield step, {name: float(cell) for name, cell in row.items() if cell}


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
