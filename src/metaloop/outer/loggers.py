"""Where a run's numbers go while it runs: CSV, TensorBoard and, by choice, W&B.

The step of every row is the outer step, so that a resumed run goes on where it was.
"""

import logging
import netrc
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from metaloop.outer.metrics_csv import CsvTracker
from metaloop.outer.tracker import RunInfo, Tracker, scores_of

__all__ = ["CsvTracker", "RunInfo", "TensorBoardTracker", "Tracker", "WandbTracker"]

log = logging.getLogger(__name__)


class TensorBoardTracker(Tracker):
    """Scalars under ``tensorboard/`` in the run directory; what a resumed run logs again replaces what was there."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, run: RunInfo) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter  # only where a run starts

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
        for name, value in scores_of(record).items():
            self._writer.add_scalar(name, value, step)
        self._writer.close()


class WandbTracker(Tracker):
    """Weights & Biases: one W&B run for each run, with the whole config, and the record's scores as its summary.

    The x-axis of every metric is ``outer_step``. A resumed run has the W&B id of its first start (``wandb_id.txt``);
    offline that is a further folder of the same id, to be sent with ``wandb sync --append``.

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
    return {"status": status, **numbers, **scores_of(record)}


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
    hosts = {urlparse(settings.base_url).hostname or "", "api.wandb.ai"}  # the second is what older logins wrote
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return path.exists() and any(netrc.netrc(path).authenticators(host) for host in hosts)
    except (OSError, netrc.NetrcParseError):
        return False
