"""Meta-batches for training, validation and test."""

from collections.abc import Iterator

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from metaloop.data.distribution import Dataset
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.plan import EpisodePlan
from metaloop.errors import UserError
from metaloop.training.stretches.stretches import Stretches
from metaloop.types import Tasks


class EpisodeDataModule(LightningDataModule):
    """Lightning data module for every data set.

    Training and validation splits are opened at their first use; :meth:`test_dataloader` alone opens the test split, unless
    another one is ``scored``.

    Args:
        dataset: The data set.
        plan: The episodes to draw.
        stretches: Takes some of the outer steps, whose meta-batches the training loader leaves out; None for a loader of all.
        scored: The split that Lightning's test scores: "test", or "validation" to choose settings of the test without it.
    """

    def __init__(self, dataset: Dataset, plan: EpisodePlan, stretches: Stretches | None = None, scored: str = "test") -> None:
        super().__init__()
        self.dataset = dataset
        self.plan = plan
        self.stretches = stretches
        self.scored = scored
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
        """The fixed episodes of the split that is scored, usually the test split, which this opens."""
        return self._eval_loader(self.scored, self.plan.test_episodes)

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
