"""A finished run, opened: the only way to test it again, to predict with it, to inspect it or to compare it.

Nothing here imports torch before the run is known to be one, so that a wrong folder is answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.errors import UserError
from metaloop.records.directory import BEST
from metaloop.records.reading import read_identity
from metaloop.records.schema import RECORD, RunIdentity
from metaloop.records.typed_json import read_object

if TYPE_CHECKING:
    from metaloop.config.build import TrainedOn
    from metaloop.data.distribution import Dataset
    from metaloop.evaluation.restored import RestoredTest
    from metaloop.learners.learner import Learner


@dataclass(frozen=True)
class FinishedRun:
    """A run directory: what the run is and what came out. The learner is built when it is asked for.

    Attributes:
        directory: of the run.
        identity: with the config that it was trained by.
        record: None for a run that is not finished.
    """

    directory: Path
    identity: RunIdentity
    record: Mapping[str, Any] | None

    @classmethod
    def open(cls, directory: str | Path, *, unfinished: bool = False) -> "FinishedRun":
        """Open a run directory.

        Args:
            directory: of a run.
            unfinished: whether a run whose training was stopped is taken too, with its best checkpoint so far.

        Raises:
            UserError: it is no run directory, or the run is not finished.
        """
        directory = Path(directory)
        identity = read_identity(directory)
        if (directory / RECORD).exists():
            return cls(directory, identity, read_object(directory / RECORD, "record"))
        if not unfinished:
            raise UserError(
                f"{directory} is not finished, it has no {RECORD}; go on with metaloop train resume={directory}, or say "
                f"unfinished=true to take its best checkpoint so far"
            )
        return cls(directory, identity, None)

    @property
    def config(self) -> Mapping[str, Any]:
        """That the run was trained by."""
        return self.identity.config

    @property
    def checkpoint(self) -> Path:
        """The file of the best checkpoint."""
        return self.directory / "checkpoints" / BEST

    @property
    def training(self) -> Mapping[str, Any]:
        """The record's block of the training; empty for a run that is not finished."""
        return (self.record or {}).get("training") or {}

    def test(self, config: Mapping[str, Any] | None = None, *, own_episodes: bool = True) -> "RestoredTest":
        """The learner as the best checkpoint has it, and the episodes to test it on, both on the config's device.

        Args:
            config: the run's config with what the test wants otherwise; None for the run's own.
            own_episodes: whether episodes have the size that the data set prescribes, where it prescribes one.

        Raises:
            UserError: the learner cannot be tested on these episodes, or the checkpoint is missing or does not fit.
        """
        from metaloop.evaluation.restored import restore_test

        return restore_test(self, self.config if config is None else config, own_episodes=own_episodes)

    def learner(self, config: Mapping[str, Any], tasks: "TrainedOn") -> "Learner":
        """The learner as the best checkpoint has it, built by ``config`` for such meta-training tasks.

        Raises:
            UserError: the checkpoint is missing or does not fit.
        """
        from metaloop.config.build import build_learner_for
        from metaloop.training.meta_test import restored

        learner = build_learner_for(config, tasks)
        return restored(learner, tasks.problem, self.identity.fingerprint, self.checkpoint).learner

    def check_encoder(self, dataset: "Dataset") -> None:
        """Raise a UserError where the frozen encoder of ``dataset`` has other weights than when the run was trained."""
        from metaloop.data.encoded import check_encoder

        check_encoder(dataset, self.training.get("encoder"), f"the run {self.directory}")


def load_run(directory: str | Path, *, unfinished: bool = False) -> FinishedRun:
    """Open a run directory; see :meth:`FinishedRun.open`."""
    return FinishedRun.open(directory, unfinished=unfinished)
