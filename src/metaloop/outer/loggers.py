"""Where a run's numbers go while it runs: CSV, TensorBoard and, by choice, W&B.

The step of every row is the outer step, so that a resumed run goes on where it was.
"""

import csv
import io
import logging
import netrc
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from metaloop.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told about the run.

    Attributes:
        directory: of the run.
        name: of the run.
        group: of the runs that belong together, such as a sweep; None for a run alone.
        job_type: such as ``train``.
        tags: short labels to find the run by.
        config: resolved, as plain data.
        resumed_step: the outer step that the run goes on after; 0 for one that starts.
    """

    directory: Path
    name: str
    group: str | None
    job_type: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    resumed_step: int


class Tracker(ABC):
    """Receives a run's numbers. Called by rank zero alone."""

    @abstractmethod
    def start(self, run: RunInfo) -> None:
        """The run starts or goes on; what was logged after ``run.resumed_step`` will come again."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One row: metrics by name after ``step`` outer steps."""

    @abstractmethod
    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """The run ends, in whatever way: ``record`` is None where it did not reach its end.

        Args:
            record: of the finished run.
            status: ``finished`` or what else happened.
        """


def test_scores(record: Mapping[str, Any] | None) -> dict[str, float]:
    """The meta-test's numbers by name: ``test/accuracy`` (in [0, 1]), its ``_half_width``, losses and the like."""
    test = (record or {}).get("test")
    if not test:
        return {}
    parts = {test["metric"]: test, **test.get("others", {})}
    scores: dict[str, float] = {"test/episodes": test["episodes"]}
    for name, part in parts.items():
        scores[f"test/{name}"] = part["mean"]
        if part.get("half_width") is not None:
            scores[f"test/{name}_half_width"] = part["half_width"]
    return scores


class CsvTracker(Tracker):
    """``metrics.csv``: one row a call, flushed; first column ``step``, empty where a metric was not logged.

    A resumed run's file equals that of a run that was never stopped, as far as the metrics are equal.
    """

    def __init__(self) -> None:
        self._path = Path()
        self._columns: list[str] = []
        self._file: io.TextIOWrapper | None = None

    def start(self, run: RunInfo) -> None:
        """Open the file; on resume drop the rows after ``resumed_step`` and a last line that was cut off.

        Raises:
            UserError: a line of the file to go on with cannot be read.
        """
        self._path = run.directory / "metrics.csv"
        self._columns = ["step"]
        rows: list[list[str]] = []
        if run.resumed_step and self._path.exists():
            lines = self._path.read_text().splitlines(keepends=True)
            whole = lines[:-1] if lines and not lines[-1].endswith("\n") else lines
            found = list(csv.reader(whole))
            self._columns = found[0] if found else ["step"]
            rows = [row for row in self._checked(found[1:]) if int(row[0]) <= run.resumed_step]
        self._rewrite(rows)

    def _checked(self, rows: list[list[str]]) -> list[list[str]]:
        for number, row in enumerate(rows, start=2):
            if len(row) != len(self._columns) or not row[0].isdigit():
                raise UserError(f"{self._path}, line {number} is damaged: {','.join(row)!r}; remove it, then resume again")
        return rows

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a row; a metric that is new gets a column and the rows before it an empty cell."""
        new = [name for name in metrics if name not in self._columns]
        if new:
            self._add_columns(new)
        values: dict[str, object] = {"step": step, **metrics}
        assert self._file is not None
        self._file.write(_line([repr(values[name]) if name in values else "" for name in self._columns]))
        self._file.flush()

    def _add_columns(self, names: list[str]) -> None:
        rows = list(csv.reader(self._path.read_text().splitlines()))[1:]
        self._columns = self._columns + names
        self._rewrite([row + [""] * len(names) for row in rows])

    def _rewrite(self, rows: list[list[str]]) -> None:
        """Put header and rows in the file's place in one move, and go on at its end."""
        self._close()
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        temporary.write_text("".join(_line(row) for row in [self._columns, *rows]))
        temporary.replace(self._path)
        self._file = self._path.open("a", newline="")

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


class TensorBoardTracker(Tracker):
    """Scalars under ``tensorboard/`` in the run directory; what a resumed run logs again replaces what was there."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, run: RunInfo) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        folder = run.directory / "tensorboard"
        again = run.resumed_step + 1 if run.resumed_step else 0
        self._writer = SummaryWriter(str(folder), purge_step=again if folder.exists() else None, flush_secs=30)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One scalar for each metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Add the meta-test's scores at the last step, flush and close."""
        if self._writer is None:
            return
        step = ((record or {}).get("training") or {}).get("steps", 0)
        for name, value in test_scores(record).items():
            self._writer.add_scalar(name, value, step)
        self._writer.close()


class WandbTracker(Tracker):
    """Weights & Biases: one W&B run for each run, with the whole config, and the record's scores as its summary.

    The x-axis of every metric is ``outer_step``. A resumed run keeps its W&B id, kept in ``wandb_id.txt``; offline that is
    a further folder of the same id, to be sent with ``wandb sync --append``.

    W&B is a spectator: whatever fails in it is logged once as a warning, and the training goes on.

    Args:
        project: W&B project.
        entity: W&B user or team; None for the account's default.
        offline: whether to write to disk only; None: unless there is an API key (in the environment, W&B's settings or
            netrc) or ``WANDB_MODE`` says otherwise.
        group: of runs shown together; None: the sweep.
        tags: beside those of the run.
    """

    def __init__(
        self,
        project: str = "metaloop",
        entity: str | None = None,
        offline: bool | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._project = project
        self._entity = entity
        self._offline = offline
        self._group = group
        self._tags = tuple(tags)
        self._run: Any = None
        self._warned = False

    def start(self, run: RunInfo) -> None:
        """Start W&B's run."""
        self._guarded(lambda: self._start(run))

    def _start(self, run: RunInfo) -> None:
        import wandb  # takes a second to import

        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            dir=run.directory,
            id=_kept_id(run.directory / "wandb_id.txt"),
            resume="allow",
            name=run.name,
            group=self._group or run.group,
            job_type=run.job_type,
            tags=[*run.tags, *self._tags],
            config=dict(run.config),
            mode=self._mode(),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )
        self._run.define_metric("outer_step")
        self._run.define_metric("*", step_metric="outer_step")

    def _mode(self) -> Any:
        if self._offline is not None:
            return "offline" if self._offline else "online"
        return None if os.environ.get("WANDB_MODE") or _has_key() else "offline"

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One row of W&B's history."""
        if self._run is not None:
            self._guarded(lambda: self._run.log({**metrics, "outer_step": step}))

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Set the summary and end W&B's run, as failed unless the run finished."""
        if self._run is not None:
            self._guarded(lambda: self._run.summary.update(_summary(record, status)))
            self._guarded(lambda: self._run.finish(exit_code=0 if status == "finished" else 1))

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            # On purpose everything: no network, a full quota or a fault of W&B's must not cost hours of training, and
            # metrics.csv has the numbers in any case.
            if not self._warned:
                self._warned = True
                log.warning("W&B failed and is left behind; metrics.csv and TensorBoard go on: %r", error)


def _summary(record: Mapping[str, Any] | None, status: str) -> dict[str, Any]:
    training = (record or {}).get("training") or {}
    numbers = {f"training/{name}": value for name, value in training.items() if isinstance(value, int | float)}
    return {"status": status, **numbers, **test_scores(record)}


def _kept_id(path: Path) -> str:
    """The run's W&B id, made at its first start."""
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def _has_key() -> bool:
    """Whether W&B would find an API key: in the environment, its settings files or netrc."""
    import wandb

    settings = wandb.setup().settings
    if settings.api_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return bool(path.exists() and netrc.netrc(path).authenticators(urlparse(settings.base_url).hostname or ""))
    except (OSError, netrc.NetrcParseError):
        return False
