"""Weights & Biases. The only file that imports wandb."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from metaloop.errors import UserError
from metaloop.records.directory import BEST
from metaloop.tracking.background import BackgroundTracker
from metaloop.tracking.csv import rows_until
from metaloop.tracking.tracker import RunInfo, scores_of

_LONGEST_TAG = 64  # characters; W&B refuses a run with a longer one


@final
class WandbTracker(BackgroundTracker):
    """Tracker that makes one W&B run for each run: config, choices, rows, scores (as summary), adaptation curve, figures.

    W&B's step is the outer step, so rows of one outer step become one row. A resumed run keeps the W&B id of its first start
    (``wandb_id.txt``). It logs the rows of metrics.csv, then its own, except those that W&B's server has. The offline folder
    of an earlier start that was never sent holds nothing more than that and is removed.

    Args:
        project: W&B project.
        entity: W&B user or team; None for the account's default.
        offline: Whether to write to disk only; None for yes unless W&B has an API key or ``WANDB_MODE`` is set.
        group: Name of the group of runs; None for the name of the sweep.
        tags: Tags in addition to the choices; 1 to 64 characters each.
        checkpoint: Whether to send the best checkpoint to W&B, as an artifact of type ``model``.
        wait: Seconds that the run waits for W&B at its end.

    Raises:
        UserError: W&B would refuse a tag.
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
        self._first = 0  # the first outer step that W&B lacks

    def _open(self, run: RunInfo) -> None:
        import wandb  # takes a second to import

        self._directory, identity = run.directory, _kept_id(run.directory / "wandb_id.txt")
        choices = [f"{group}:{choice}"[:_LONGEST_TAG] for group, choice in run.choices.items()]
        self._first = _remove_unsent(run.directory / "wandb", identity) + 1
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            dir=run.directory,
            id=identity,
            resume="allow",
            name=run.name,
            group=self._group or run.group,
            job_type="train",
            tags=[*choices, *self._tags],
            config={**run.config, "choices": dict(run.choices)},
            mode=self._mode(),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )
        self._first = max(self._first, self._run.step)  # online, the server knows the last step of a resumed run
        for step, metrics in rows_until(run.directory / "metrics.csv", run.resumed_step):
            self._write(metrics, step)

    def _mode(self) -> Any:
        if self._offline is not None:
            return "offline" if self._offline else "online"
        return None if os.environ.get("WANDB_MODE") or has_key() else "offline"

    def _write(self, metrics: Mapping[str, float], step: int) -> None:
        if step >= self._first:
            self._run.log(dict(metrics), step=step)

    def _close(self, record: Mapping[str, Any] | None, status: str) -> None:
        try:
            self._run.summary.update(_summary(record, status))
            if record is not None:
                with _staged_in(self._directory / "wandb"):
                    self._show(record)
        finally:
            self._run.finish(exit_code=0 if status == "finished" else 1)

    def _show(self, record: Mapping[str, Any]) -> None:
        """Log the adaptation curve as a table, the report's figures and the best checkpoint."""
        import wandb

        columns = ["step", "mean", "half_width"]
        rows = [[point.get(name) for name in columns] for point in record["test"].get("curve", [])]
        figures = {f"report/{path.stem}": wandb.Image(str(path)) for path in sorted(self._directory.glob("report/*.png"))}
        moving = {
            f"report/{path.stem}_moving": wandb.Video(str(path), format="gif")
            for path in sorted(self._directory.glob("report/*.gif"))
        }
        table = wandb.Table(columns=list(columns), data=rows)
        self._run.log({"test/adaptation": table, **figures, **moving}, step=record["training"]["steps"])
        if self._checkpoint:
            artifact = wandb.Artifact(f"{self._run.id}-best", type="model")
            artifact.add_file(str(self._directory / "checkpoints" / BEST), policy="immutable", skip_cache=True)
            self._run.log_artifact(artifact)

    def _abandon(self) -> None:
        """End W&B's service process and its exit hook, which would wait for a service that does not answer.

        W&B has no public way to give up on its service, hence the private names.
        """
        from wandb.sdk import wandb_setup

        connection: Any = wandb_setup.singleton()._connection
        if connection is not None and connection.owns_service:
            connection._cleanup()
            connection._proc._process.kill()
            os.environ.pop("WANDB_SERVICE", None)  # processes started from here would look for it


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Stage the files of tables and artifacts in the run directory, so that another machine can send them.

    W&B stages them in the home directory unless an environment variable names a folder; it has no other setting.
    """
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]


def _remove_unsent(folder: Path, identity: str) -> int:
    """Remove offline folders of earlier starts that were not sent; return the last outer step of the others, or -1."""
    last = -1
    for path in folder.glob(f"*run-*-{identity}/*.wandb"):
        if path.parent.name.startswith("offline-") and not path.with_suffix(".wandb.synced").exists():
            shutil.rmtree(path.parent)
        else:
            rows = [record["history"]["item"] for record in read_back(path) if record["type"] == "history"]
            last = max([last, *(row["_step"] for row in rows)])
    return last


def read_back(path: Path) -> list[dict[str, Any]]:
    """Read all records of a ``.wandb`` file with W&B's own reader."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    quiet = {**os.environ, "WANDB_ERROR_REPORTING": "false"}
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=quiet).stdout
    return [json.loads(line) for line in output.splitlines()]


def _summary(record: Mapping[str, Any] | None, status: str) -> dict[str, Any]:
    training = (record or {}).get("training") or {}
    numbers = {f"training/{name}": value for name, value in training.items() if isinstance(value, int | float)}
    return {"status": status, **numbers, **scores_of(record)}


def _kept_id(path: Path) -> str:
    """Read the run's W&B id; make it at the first start."""
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def has_key() -> bool:
    """Whether W&B finds an API key: in the environment, its settings or netrc."""
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    host = wandb_setup.singleton().settings.base_url  # wandb.setup() would start the service
    return wbauth.authenticate_session(host=host, source="metaloop", prompt=False, update_session=False) is not None
