"""An opened finished run: the only way to evaluate it, to predict with it, to inspect it or to compare it.

torch is imported only after the run directory has been read, so that a wrong folder is refused at once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.config.data_paths import with_absolute_paths
from metaloop.config.trust import read_received_identity
from metaloop.errors import UserError
from metaloop.records.contents import SplitContents, read_contents
from metaloop.records.directory import BEST, check_links
from metaloop.records.reading import read_record
from metaloop.records.schema import RECORD, Record, RunIdentity, Training

if TYPE_CHECKING:
    from metaloop.config.trained_on import TrainedOn
    from metaloop.data.distribution import Dataset
    from metaloop.evaluation.restored import RestoredTest
    from metaloop.learners.learner import Learner


@dataclass(frozen=True)
class FinishedRun:
    """A run directory with its identity and record. The learner is built on demand.

    Attributes:
        directory: Run directory.
        identity: Identity of the run, with the config that it was trained with.
        record: Record of the run; None for an unfinished run.
        checkpoint_name: File of the checkpoint that counts, in the run's folder of checkpoints.
    """

    directory: Path
    identity: RunIdentity
    record: Record | None
    checkpoint_name: str = BEST

    @classmethod
    def open(cls, directory: str | Path, *, unfinished: bool = False, trust: Collection[str] = ()) -> "FinishedRun":
        """Open a run directory.

        Args:
            directory: Run directory.
            unfinished: Whether to accept a run whose training was stopped, with its best checkpoint so far.
            trust: Packages that the run's config may name besides metaloop, if the run comes from elsewhere.

        Raises:
            UserError: the folder is not a run directory, the run is not finished, or it asks for what is not trusted.
        """
        directory = Path(directory)
        identity = read_received_identity(directory, trust)
        check_links(directory)
        if (directory / RECORD).exists():
            return cls(directory, identity, read_record(directory))
        if not unfinished:
            raise UserError(
                f"{directory} is not finished, it has no {RECORD}; continue it with metaloop train resume={directory}, or "
                f"use its best checkpoint so far with unfinished=true"
            )
        return cls(directory, identity, None)

    @property
    def config(self) -> Mapping[str, Any]:
        """Config that the run was trained with; relative paths of data are those of the folder where it was started."""
        return with_absolute_paths(self.identity.config, self.identity.folder)

    @property
    def contents(self) -> Mapping[str, SplitContents]:
        """Classes and digests of the splits that the run was trained on, for RecordedDataset."""
        return read_contents(self.directory)

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint that counts, the best one unless another was chosen."""
        return self.directory / "checkpoints" / self.checkpoint_name

    def at(self, name: str) -> "FinishedRun":
        """Choose another checkpoint that the run kept, such as ``minutes-5.ckpt`` (see callbacks=cpu_budget).

        Raises:
            UserError: the run kept no such checkpoint; names those that it has.
        """
        kept = sorted(path.name for path in (self.directory / "checkpoints").glob("*.ckpt"))
        if name not in kept:
            raise UserError(f"checkpoint={name}: {self.directory} kept {', '.join(kept) or 'no checkpoint'}")
        return replace(self, checkpoint_name=name)

    @property
    def training(self) -> Training | None:
        """The record's block about training; None for an unfinished run."""
        return self.record.training if self.record else None

    def test(
        self, config: Mapping[str, Any] | None = None, *, own_episodes: bool = True, split: str = "test"
    ) -> "RestoredTest":
        """Restore the best checkpoint's learner and the episodes to test it on, both on the config's device.

        Args:
            config: The run's config with changes for the test; None for no changes.
            own_episodes: Whether episodes have the size that the data set prescribes, if it prescribes one.
            split: "test", or "validation".

        Raises:
            UserError: the learner cannot be tested on these episodes, or the checkpoint is missing or does not fit.
        """
        from metaloop.evaluation.restored import restore_test

        return restore_test(self, self.config if config is None else config, own_episodes=own_episodes, split=split)

    def learner(self, config: Mapping[str, Any], tasks: "TrainedOn") -> "Learner":
        """Build a learner from ``config`` for these meta-training tasks and load the best checkpoint.

        Raises:
            UserError: the checkpoint is missing or does not fit.
        """
        from metaloop.config.build import build_learner_for
        from metaloop.training.restoring import load_parameters

        learner = build_learner_for(config, tasks)
        load_parameters(learner, self.identity.fingerprint, self.checkpoint)
        return learner

    def check_encoder(self, dataset: "Dataset") -> None:
        """Raise a UserError if the frozen encoder of ``dataset`` has other weights than when the run was trained."""
        from metaloop.data.encoded import check_encoder

        check_encoder(dataset, self.training.encoder if self.training else None, f"the run {self.directory}")


def load_run(directory: str | Path, *, unfinished: bool = False, trust: Collection[str] = ()) -> FinishedRun:
    """Open a run directory; see :meth:`FinishedRun.open`."""
    return FinishedRun.open(directory, unfinished=unfinished, trust=trust)
