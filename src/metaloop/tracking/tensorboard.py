"""The tracker that writes TensorBoard files, which every run has."""

from collections.abc import Mapping
from typing import Any

from metaloop.tracking.tracker import RunInfo, Tracker, scores_of


class TensorBoardTracker(Tracker):
    """Tracker that writes scalars to ``tensorboard/`` in the run directory; a resumed run replaces the rows that it repeats."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, run: RunInfo) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and needed only to train

        folder = run.directory / "tensorboard"
        first = run.resumed_step + 1 if run.resumed_step else 0
        self._writer = SummaryWriter(str(folder), purge_step=first if folder.exists() else None, flush_secs=30)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one scalar for each metric."""
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
