"""Meta-batches for training, validation and test."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.episodes import Episodes
from metaloop.data.fitting import fitted_spec
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.training.stretches.stretches import Stretches
from metaloop.types import EpisodeSpec, Tasks

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


class EpisodeDataModule(LightningDataModule):
    """Lightning data module for every data set.

    Training and validation splits are opened at their first use; :meth:`test_dataloader` alone opens the test split.

    Args:
        dataset: The data set.
        plan: The episodes to draw.
        stretches: Takes some of the outer steps, whose meta-batches the training loader leaves out; None for a loader of all.
    """

    def __init__(self, dataset: Dataset, plan: EpisodePlan, stretches: Stretches | None = None) -> None:
        super().__init__()
        self.dataset = dataset
        self.plan = plan
        self.stretches = stretches
        self._opened: dict[tuple[str, str], Episodes] = {}

    def episodes(self, split: str, device: torch.device | str = "cpu") -> Episodes:
        """Open a split's episodes with the data on ``device``; repeated calls return the same object."""
        key = (split, str(device))
        if key not in self._opened:
            training = split == "train"
            stream = Stream(self.plan.seed if training else self.plan.eval_seed, split)
            distribution = self.dataset.split(split).to(device)
            self._opened[key] = Episodes(distribution, self.plan.train_spec if training else self.plan.spec, stream)
        return self._opened[key]

    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    def train_dataloader(self) -> "TrainLoader":
        """Meta-batches from the current outer step to the next checkpoint."""
        assert self.trainer is not None
        ranks = self.trainer.world_size
        if self.plan.meta_batch % ranks:
            raise UserError(
                f"outer.meta_batch={self.plan.meta_batch} cannot be shared by {ranks} ranks: set it to a multiple of {ranks}"
            )
        device = torch.device("cpu") if self.plan.workers else self._device()
        return TrainLoader(self, self.episodes("train", device), device)

    def val_dataloader(self) -> "EvalLoader":
        """The fixed validation episodes."""
        return self._eval_loader("validation", self.plan.validation_episodes)

    def test_dataloader(self) -> "EvalLoader":
        """The fixed test episodes; opens the test split."""
        return self._eval_loader("test", self.plan.test_episodes)

    def _eval_loader(self, split: str, count: int) -> "EvalLoader":
        assert self.trainer is not None
        episodes = self.episodes(split, self._device())
        count = min(count, episodes.distribution.episodes or count)
        return EvalLoader(
            episodes, count, self.plan.eval_batch, self._device(), self.trainer.global_rank, self.trainer.world_size
        )

    def transfer_batch_to_device(self, batch: Tasks, device: torch.device, dataloader_idx: int) -> Tasks:
        """Move episodes from worker processes to ``device``; without workers they are drawn there."""
        return batch.to(device) if self.plan.workers else batch


class TrainLoader:
    """Meta-batches from the current outer step to the next checkpoint, so that a resumed run continues exactly."""

    def __init__(self, module: EpisodeDataModule, episodes: Episodes, device: torch.device) -> None:
        self.module = module
        self.episodes = episodes
        self.device = device

    def __iter__(self) -> Iterator[Tasks]:
        trainer, plan = self.module.trainer, self.module.plan
        assert trainer is not None
        first = trainer.global_step
        stop = (first // plan.interval + 1) * plan.interval
        stop = stop if trainer.max_steps < 0 else min(stop, trainer.max_steps)
        if plan.workers:
            steps = _Steps(self.episodes, plan, trainer.global_rank, trainer.world_size)
            generator = torch.Generator()  # seeds of the workers must not use up the random numbers of training
            return iter(
                DataLoader(steps, batch_size=None, sampler=range(first, stop), num_workers=plan.workers, generator=generator)
            )
        return self._drawn_here(first, stop)

    def _drawn_here(self, first: int, stop: int) -> Iterator[Tasks]:
        """The meta-batches of the outer steps that Lightning takes, which are all until a stretch takes others."""
        trainer, stretches = self.module.trainer, self.module.stretches
        assert trainer is not None
        size, step = self.module.plan.meta_batch, first
        if self.module.plan.passes > 1:
            steps = _Steps(self.episodes, self.module.plan, trainer.global_rank, trainer.world_size, self.device)
            yield from (steps[number] for number in range(first, stop))
            return
        while step < stop:
            one_by_one = stretches is None or not stretches.possible
            step = step if stretches is None else stretches.next_step(first, step, stop)
            last = stop if one_by_one else step + 1
            batches = self.episodes.batches(
                step * size, last * size, size, self.device, rank=trainer.global_rank, ranks=trainer.world_size
            )
            for tasks in batches:
                yield tasks
                step += 1


class _Steps(TorchDataset[Tasks]):
    """This rank's shares of the meta-batches, one by one, as for DataLoader workers; item ``s`` belongs to outer step ``s``."""

    def __init__(
        self, episodes: Episodes, plan: EpisodePlan, rank: int, ranks: int, device: torch.device | str = "cpu"
    ) -> None:
        self.episodes = episodes
        self.meta_batch = plan.meta_batch
        self.passes = plan.passes
        self.rank = rank
        self.ranks = ranks
        self.device = device

    def __getitem__(self, step: int) -> Tasks:
        first, size = step // self.passes * self.meta_batch, self.meta_batch
        return next(self.episodes.batches(first, first + size, size, self.device, rank=self.rank, ranks=self.ranks))


class EvalLoader:
    """The first ``count`` episodes of a split in batches. Each rank has a consecutive share.

    A rank whose share is empty scores the last episode again, and `metaloop.training.scores.gather` drops it: without any batch
    the rank would not take part in the collective calls at the end, and the others would wait for ever.
    """

    def __init__(self, episodes: Episodes, count: int, batch: int, device: torch.device, rank: int, ranks: int) -> None:
        self.episodes = episodes
        self.count = count
        self.batch = batch
        self.device = device
        self.rank = rank
        self.ranks = ranks

    @property
    def share(self) -> int:
        """Number of episodes that this rank scores."""
        return len(self._numbers())

    def _numbers(self) -> range:
        first, stop = (self.count * rank // self.ranks for rank in (self.rank, self.rank + 1))
        return range(first, stop) if first < stop else range(self.count - 1, self.count)

    def __iter__(self) -> Iterator[Tasks]:
        numbers = self._numbers()
        return self.episodes.batches(numbers.start, numbers.stop, self.batch, self.device)
