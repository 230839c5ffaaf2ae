"""Episodes as floats in [0, 1] from one pool of uint8 images, drawn in the usual way of three libraries."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.cases import Case, load

META_BATCH = 32  # episodes drawn at a time
Episode = tuple[Tensor, Tensor, Tensor, Tensor]  # support x and y, query x and y


def images(classes: int, each: int, side: int = 28) -> Tensor:
    """(classes * each, 1, side, side) uint8 noise whose first two pixels encode the class."""
    pixels = torch.randint(
        0, 256, (classes * each, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    number = torch.arange(classes).repeat_interleave(each)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = (number // 256).to(torch.uint8), (number % 256).to(torch.uint8)
    return pixels


class Images(Dataset):
    """Data set of single images, like torchvision's with ``ToTensor``."""

    def __init__(self, pixels: Tensor, each: int) -> None:
        self.pixels = pixels
        self.labels = torch.arange(len(pixels) // each).repeat_interleave(each).tolist()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.pixels[i].float() / 255.0, self.labels[i]


class EpisodeSampler(Sampler):
    """Batch sampler whose batches are episodes: ``random.sample`` of classes, then of each class's images."""

    def __init__(self, labels: list[int], case: Case, episodes: int) -> None:
        self.case, self.episodes = case, episodes
        self.items: dict[int, list[int]] = {}
        for item, label in enumerate(labels):
            self.items.setdefault(label, []).append(item)

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.episodes):
            classes = random.sample(sorted(self.items), self.case.ways)
            yield [i for c in classes for i in random.sample(self.items[c], self.case.shots + self.case.queries)]


def from_loader(case: Case, pixels: Tensor, each: int) -> Iterator[Episode]:
    """Draw from a DataLoader whose batches are episodes; its collate function splits and relabels them."""

    def collate(items: list[tuple[Tensor, int]]) -> Episode:
        x = torch.stack([image for image, _ in items])
        true = sorted({label for _, label in items})
        y = torch.tensor([true.index(label) for _, label in items])
        x, y = x.unflatten(0, (case.ways, -1)), y.unflatten(0, (case.ways, -1))
        parts = [part for at in (slice(0, case.shots), slice(case.shots, None)) for part in (x[:, at], y[:, at])]
        return tuple(part.flatten(0, 1) for part in parts)  # type: ignore[return-value]

    dataset = Images(pixels, each)
    while True:
        yield from DataLoader(dataset, batch_sampler=EpisodeSampler(dataset.labels, case, 10_000), collate_fn=collate)


def from_learn2learn(case: Case, pixels: Tensor, each: int) -> Iterator[Episode]:
    """Draw from learn2learn's task data set with its usual transforms, split by index as in its examples."""
    import peer_learn2learn  # noqa: F401
    from learn2learn.data import MetaDataset, TaskDataset
    from learn2learn.data.transforms import KShots, LoadData, NWays, RemapLabels

    dataset = MetaDataset(Images(pixels, each))
    steps = [NWays(dataset, case.ways), KShots(dataset, case.shots + case.queries), LoadData(dataset), RemapLabels(dataset)]
    tasks = TaskDataset(dataset, task_transforms=steps, num_tasks=-1)
    support = torch.zeros(case.ways * (case.shots + case.queries), dtype=torch.bool)
    for shot in range(case.shots):
        support[torch.arange(case.ways) * (case.shots + case.queries) + shot] = True
    while True:
        x, y = tasks.sample()
        yield x[support], y[support], x[~support], y[~support]


def from_metaloop(case: Case, pixels: Tensor, each: int) -> Iterator[Episode]:
    """Draw metaloop's episodes by number, from the kind of pool that a run uses."""
    from metaloop.data.episodes import Episodes
    from metaloop.data.philox import Stream
    from metaloop.data.pool import ClassPool
    from metaloop.types import EpisodeSpec

    classes = len(pixels) // each
    pool = ClassPool(pixels, [each] * classes, [str(i) for i in range(classes)], split="train")
    episodes = Episodes(pool, EpisodeSpec(case.ways, case.shots, case.queries), Stream(0, "train"))
    first, stretch = 0, META_BATCH * 1000  # a stretch between two checkpoints
    while True:
        for tasks in episodes.batches(first, first + stretch, META_BATCH, "cpu"):
            parts = (tasks.support.x, tasks.support.y, tasks.query.x, tasks.query.y)
            yield from zip(*(part.unbind(0) for part in parts), strict=True)
        first += stretch


SAMPLERS = {"metaloop": from_metaloop, "learn2learn": from_learn2learn, "sampler": from_loader}
CLASSES, EACH = 1100, 20  # about as many as Omniglot's meta-training classes


class SamplingSession:
    """A session that draws episodes.

    Args:
        name: one of `SAMPLERS`.
        path: file of the case, of which ways, shots and queries are used.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.case, _, _ = load(path)
        random.seed(0)
        self.episodes = SAMPLERS[name](self.case, images(CLASSES, EACH), EACH)

    def check(self) -> None:
        """Draw some episodes and check each."""
        for _ in range(4):
            check_episode(self.case, next(self.episodes))

    def meta_batches(self, count: int) -> float:
        """Draw ``count`` meta-batches; return the seconds of one."""
        start = time.perf_counter()
        for _ in range(count * META_BATCH):
            next(self.episodes)
        return (time.perf_counter() - start) / count

    def about(self) -> dict[str, Any]:
        """Number of threads."""
        return {"threads": torch.get_num_threads()}


def check_episode(case: Case, episode: Episode) -> None:
    """Assert that every label stands for one class and that all images of the episode are different."""
    support_x, support_y, query_x, query_y = episode
    assert support_x.dtype == torch.float32
    assert (len(support_x), len(query_x)) == (case.ways * case.shots, case.ways * case.queries)
    x, y = torch.cat([support_x, query_x]), torch.cat([support_y, query_y])
    bytes_ = (x * 255).round().long()
    numbers = bytes_[:, 0, 0, 0] * 256 + bytes_[:, 0, 0, 1]
    pairs = torch.unique(torch.stack([y, numbers], 1), dim=0)
    assert len(pairs) == case.ways
    assert len(torch.unique(pairs[:, 0])) == len(torch.unique(pairs[:, 1])) == case.ways
    assert (torch.bincount(support_y, minlength=case.ways) == case.shots).all()
    assert len(torch.unique(x.flatten(1), dim=0)) == len(x)
