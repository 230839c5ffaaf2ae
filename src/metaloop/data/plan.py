"""The episodes that a run draws: their sizes, numbers and seeds."""

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.fitting import fitted_spec
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodePlan:
    """The episodes that a run draws.

    Attributes:
        spec: Size of validation and test episodes.
        train_spec: Size of training episodes.
        meta_batch: Tasks of one outer step, over all ranks.
        seed: Seed of the training stream.
        eval_seed: Seed of the validation and test streams; the same for all runs, so that scores are paired.
        validation_episodes: Number of validation episodes.
        test_episodes: Number of test episodes.
        eval_batch: Tasks that are scored at once on each rank.
        interval: Outer steps between two validations; each validation is followed by a checkpoint.
        workers: Number of processes that prepare episodes; 0 draws them in the training process, on its device.
        fit: Whether to take fewer ways and queries where the data do not have as many; see :meth:`fitted`.
        passes: Outer steps in a row that get the same meta-batch, ``Learner.passes``.

    Raises:
        UserError: a number is out of range.
    """

    spec: EpisodeSpec
    train_spec: EpisodeSpec
    meta_batch: int
    seed: int
    eval_seed: int
    validation_episodes: int
    test_episodes: int
    eval_batch: int
    interval: int
    workers: int = 0
    fit: bool = False
    passes: int = 1

    def __post_init__(self) -> None:
        sizes = {"outer.meta_batch": self.meta_batch, "validation.every": self.interval, "evaluation.batch": self.eval_batch}
        for key, value in sizes.items():
            if value < 1:
                raise UserError(f"{key}={value}: at least 1")
        for key, value in {"validation.episodes": self.validation_episodes, "evaluation.episodes": self.test_episodes}.items():
            if value < 2:
                raise UserError(f"{key}={value}: at least 2, an interval needs a spread")
        for key, value in {"seed": self.seed, "evaluation.seed": self.eval_seed}.items():
            if not 0 <= value < 2**32:
                raise UserError(f"{key}={value}: a whole number in [0, 2**32)")

    def fitted(self, dataset: Dataset) -> "EpisodePlan":
        """Fit the sizes of episodes to the data if ``fit`` says so, and log what is changed.

        Meta-validation and meta-test have the same size, and at most as many ways as meta-training, for which heads are made.
        """
        if not self.fit:
            return self
        train_spec, changes = fitted_spec(_existing(dataset, "train"), self.train_spec)
        most = train_spec.ways if isinstance(train_spec.ways, int) else None
        spec, more = fitted_spec(_existing(dataset, "validation", "test"), self.spec, most)
        for change in (*changes, *more):
            log.warning("%s", change)
        return replace(self, spec=spec, train_spec=train_spec)


def _existing(dataset: Dataset, *names: str) -> list[TaskDistribution]:
    """The splits of these names, without those that the data set does not have: an evaluation needs the test split alone."""
    splits = []
    for name in names:
        with suppress(UserError):  # raised again where the split is needed
            splits.append(dataset.split(name))
    return splits
