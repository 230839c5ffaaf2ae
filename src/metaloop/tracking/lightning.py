"""Lightning's loggers as trackers: a YAML file names the logger."""

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, final

from pytorch_lightning.loggers import Logger

from metaloop.errors import UserError
from metaloop.tracking.background import BackgroundTracker
from metaloop.tracking.csv import rows_until
from metaloop.tracking.tracker import RunInfo, scores_of

_PAUSES = (2.0, 10.0, 30.0)  # seconds before a further try


@final
class LightningTracker(BackgroundTracker):
    """Tracker that uses a logger of Lightning: config and choices are hyper-parameters, rows and scores are metrics.

    The step of every metric is the outer step. A resumed run is a new run of the logger; it begins with the rows of
    metrics.csv, so that it is complete by itself.

    Args:
        logger: Makes the logger; in YAML a ``_target_`` such as ``pytorch_lightning.loggers.MLFlowLogger`` with
            ``_partial_: true``, because making one may take seconds or fail.
        extra: Name of the metaloop extra, and of the package, that the logger needs; None if it needs none.
        wait: Seconds that the run waits for the logger at its end.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, logger: Callable[[], Logger], extra: str | None = None, wait: float = 60.0) -> None:
        if extra is not None and find_spec(extra) is None:
            raise UserError(f"logger={extra} needs the package {extra}: pip install 'metaloop[{extra}]', or use logger=none")
        super().__init__(extra or "Lightning's logger", wait)
        self._make = logger
        self._logger: Any = None

    def _open(self, run: RunInfo) -> None:
        about = {"name": run.name, "group": run.group, "directory": str(run.directory)}
        self._logger = self._started({**run.config, "choices": dict(run.choices), "run": about})
        for step, metrics in rows_until(run.directory / "metrics.csv", run.resumed_step):
            self._logger.log_metrics(metrics, step)

    def _started(self, parameters: Mapping[str, Any]) -> Logger:
        """Make the logger and its run; try again on failure, because jobs of a sweep may create one database at once."""
        for pause in (*_PAUSES, None):
            try:
                logger = self._make()
                logger.log_hyperparams(dict(parameters))
                return logger
            except Exception:
                if pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _write(self, metrics: Mapping[str, float], step: int) -> None:
        self._logger.log_metrics(dict(metrics), step)

    def _close(self, record: Mapping[str, Any] | None, status: str) -> None:
        if record is not None:
            self._logger.log_metrics(scores_of(record), record["training"]["steps"])
        self._logger.finalize("success" if status == "finished" else "failed")

    def _abandon(self) -> None:
        """Do nothing: the process does not wait for a daemon thread."""
