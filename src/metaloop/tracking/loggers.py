"""Where a run's numbers go while it runs: CSV, TensorBoard and, by choice, W&B or what Lightning knows.

The step of every row is the outer step, so that a resumed run goes on where it was. The only file that imports wandb.
"""

import json
import logging
import netrc
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final
from urllib.parse import urlparse

from metaloop.errors import UserError
from metaloop.records.directory import BEST
from metaloop.tracking import transaction_log
from metaloop.tracking.background import BackgroundTracker
from metaloop.tracking.lightning import LightningTracker
from metaloop.tracking.metrics_csv import CsvTracker, rows_until
from metaloop.tracking.tensorboard import TensorBoardTracker
from metaloop.tracking.tracker import RunInfo, Tracker, scores_of

__all__ = [
    "CsvTracker",
    "LightningTracker",
    "RunInfo",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "can_be_sent",
    "has_key",
]

AXIS = "outer_step"
_LONGEST_TAG = 64  # characters; W&B refuses a run with a longer one

log = logging.getLogger(__name__)


@final
class WandbTracker(BackgroundTracker):
    """Weights & Biases: one W&B run for each run, with config, rows, scores as its summary, adaptation curve and figures.

    The x-axis of every metric is ``outer_step``; the rows of one outer step are one row there. A resumed run has the W&B id
    of its first start (``wandb_id.txt``); offline that is a further folder of the same id. It holds only rows that the ones
    before it do not: what was logged after the last checkpoint stays as it was first measured, and what W&B lost (it
    writes every 15 seconds, and nothing more once its process is killed) is taken from metrics.csv.

    Args:
        project: W&B project.
        entity: W&B user or team; None for the account's default.
        offline: whether to write to disk only; None: unless there is an API key (in the environment, W&B's settings or
            netrc) or ``WANDB_MODE`` says otherwise.
        group: of runs shown together; None: the sweep.
        tags: beside those of the run; 1 to 64 characters each.
        checkpoint: whether the best checkpoint goes to W&B, as an artifact of type ``model``.
        wait: seconds that the end of the run waits for W&B.

    Raises:
        UserError: a tag that W&B would refuse.
    """

    def __init__(
        self,
        project: str = "metaloop",
        entity: str | None = None,
        offline: bool | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        checkpoint: bool = False,
        wait: float = 60.0,
    ) -> None:
        super().__init__("W&B", wait)
        for tag in tags:
            if not 1 <= len(tag) <= _LONGEST_TAG:
                raise UserError(f"logger.wandb.tags: {tag!r} has {len(tag)} characters; W&B takes 1 to {_LONGEST_TAG}")
        self._project, self._entity, self._offline = project, entity, offline
        self._group, self._tags, self._checkpoint = group, tuple(tags), checkpoint
        self._run: Any = None
        self._directory = Path()
        self._held: set[tuple[int, str]] = set()  # outer step and name of what offline folders have from before this start
        self._held_online = 0  # outer step up to which W&B's server has everything
        self._row: dict[str, float] = {}  # of the outer step that may get more metrics

    def _open(self, run: RunInfo) -> None:
        import wandb  # takes a second to import

        self._directory, identity = run.directory, _kept_id(run.directory / "wandb_id.txt")
        for path in run.directory.glob(f"wandb/offline-run-*-{identity}/*.wandb"):
            self._held |= _held(path)
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            dir=run.directory,
            id=identity,
            resume="allow",
            name=run.name,
            group=self._group or run.group,
            job_type=run.job_type,
            tags=[tag[:_LONGEST_TAG] for tag in (*run.tags, *self._tags)],
            config=dict(run.config),
            mode=self._mode(),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )
        self._run.define_metric(AXIS)
        self._run.define_metric("*", step_metric=AXIS)
        self._held_online = int(self._run.summary.get(AXIS) or 0)  # offline there is no summary yet
        for step, metrics in rows_until(run.directory / "metrics.csv", run.resumed_step):
            self._write(metrics, step)

    def _mode(self) -> Any:
        if self._offline is not None:
            return "offline" if self._offline else "online"
        return None if os.environ.get("WANDB_MODE") or has_key() else "offline"

    def _write(self, metrics: Mapping[str, float], step: int) -> None:
        new = {name: value for name, value in metrics.items() if (step, name) not in self._held}
        if not new or step <= self._held_online:
            return
        if step != self._row.get(AXIS, step):
            self._send_row()
        self._row |= {**new, AXIS: step}

    def _send_row(self) -> None:
        row, self._row = self._row, {}
        if row:
            self._run.log(row)

    def _close(self, record: Mapping[str, Any] | None, status: str) -> None:
        self._guarded(self._send_row)
        if record is not None:
            with _staged_in(self._directory / "wandb"):
                self._guarded(lambda: self._run.log({**self._shown(record), AXIS: record["training"]["steps"]}))
                if self._checkpoint:
                    self._guarded(self._send_checkpoint)
        self._guarded(lambda: self._run.summary.update(_summary(record, status)))
        self._run.finish(exit_code=0 if status == "finished" else 1)

    def _shown(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The adaptation curve as a table, and the report's figures."""
        import wandb

        columns = ["step", "mean", "half_width"]
        rows = [[point.get(name) for name in columns] for point in record["test"].get("curve", [])]
        figures = {f"report/{path.stem}": wandb.Image(str(path)) for path in sorted(self._directory.glob("report/*.png"))}
        return {"test/adaptation": wandb.Table(columns=columns, data=rows), **figures}

    def _send_checkpoint(self) -> None:
        import wandb

        artifact = wandb.Artifact(f"{self._run.id}-best", type="model")
        artifact.add_file(str(self._directory / "checkpoints" / BEST), policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact)

    def _abandon(self) -> None:
        """End W&B's service process and its hook, which would wait for the service when this process exits.

        W&B has no way of its own to give up on a service that does not answer, hence its private names.
        """
        from wandb.sdk import wandb_setup

        connection: Any = wandb_setup.singleton()._connection
        if connection is not None and connection.owns_service:
            connection._cleanup()
            connection._proc._process.kill()
            os.environ.pop("WANDB_SERVICE", None)  # processes started from here would look for it


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Have W&B put the files of tables and artifacts there rather than in the home directory, where another machine would
    not find them when the run is sent. W&B takes this from the environment alone."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.resolve())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _held(path: Path) -> set[tuple[int, str]]:
    """Outer step and name of every metric in an offline run's file."""
    found = set()
    for record in _records(path):
        row = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if AXIS in row:
            found |= {(int(json.loads(row[AXIS])), name) for name in row}
    return found


def can_be_sent(path: Path) -> bool:
    """Whether an offline run's file says what run it is of; W&B may have been killed before it wrote that."""
    return any(record.HasField("run") for record in _records(path))


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    for data in transaction_log.records(path):
        record = Record()
        record.ParseFromString(data)
        yield record


def _summary(record: Mapping[str, Any] | None, status: str) -> dict[str, Any]:
    training = (record or {}).get("training") or {}
    numbers = {f"training/{name}": value for name, value in training.items() if isinstance(value, int | float)}
    return {"status": status, **numbers, **scores_of(record)}


def _kept_id(path: Path) -> str:
    """The run's W&B id, made at its first start."""
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def has_key() -> bool:
    """Whether W&B would find an API key: in the environment, its settings files or netrc."""
    from wandb.sdk import wandb_setup

    settings = wandb_setup.singleton().settings  # wandb.setup() would start the service
    if settings.api_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    hosts = {urlparse(settings.base_url).hostname or "", "api.wandb.ai"}  # the second is what older logins wrote
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return path.exists() and any(netrc.netrc(path).authenticators(host) for host in hosts)
    except (OSError, netrc.NetrcParseError):
        return False
