"""Meta-batches by outer step, for every rank and worker."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from metaloop.data.plan import EpisodePlan
from metaloop.errors import UserError
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.types import EpisodeSpec
from small_runs import Blobs

PLAN: dict[str, Any] = {
    "spec": EpisodeSpec(3, 1, 2),
    "train_spec": EpisodeSpec(3, 2, 2),
    "meta_batch": 4,
    "seed": 1,
    "eval_seed": 0,
    "validation_episodes": 5,
    "test_episodes": 7,
    "eval_batch": 2,
    "interval": 10,
}


def module(*, step: int = 0, max_steps: int = 25, rank: int = 0, ranks: int = 1, **changes: Any) -> EpisodeDataModule:
    data = EpisodeDataModule(Blobs(), EpisodePlan(**PLAN | changes))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(global_step=step, max_steps=max_steps, global_rank=rank, world_size=ranks, strategy=strategy)
    data.trainer = trainer
    return data


def numbers(loader: Any) -> list[list[int]]:
    return [tasks.index.tolist() for tasks in loader]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("step", "stop"), [(0, 10), (10, 20), (13, 20), (20, 25)])
def test_a_stretch_goes_from_the_current_step_to_the_next_checkpoint(step: int, stop: int, workers: int) -> None:
    found = numbers(module(step=step, workers=workers).train_dataloader())
    assert found == [list(range(4 * s, 4 * s + 4)) for s in range(step, stop)]


def test_training_without_an_end_goes_to_the_next_checkpoint() -> None:
    assert len(numbers(module(step=3, max_steps=-1).train_dataloader())) == 7


@pytest.mark.parametrize("workers", [0, 1])
def test_ranks_share_every_meta_batch(workers: int) -> None:
    shares = [numbers(module(rank=rank, ranks=2, workers=workers).train_dataloader()) for rank in (0, 1)]
    assert [one + two for one, two in zip(*shares, strict=True)] == numbers(module().train_dataloader())


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_score_every_episode_once(ranks: int) -> None:
    every = [n for rank in range(ranks) for batch in numbers(module(rank=rank, ranks=ranks).test_dataloader()) for n in batch]
    assert sorted(every) == list(range(7))


@pytest.mark.parametrize("ranks", [3, 8, 20])
def test_E5_each_rank_has_something_to_score_however_few_episodes_there_are(ranks: int) -> None:
    shares = [numbers(module(rank=rank, ranks=ranks, test_episodes=2).test_dataloader()) for rank in range(ranks)]
    assert all(shares)
    assert {n for share in shares for batch in share for n in batch} == {0, 1}


def test_training_and_evaluation_have_their_own_sizes_and_streams() -> None:
    data = module(seed=0, eval_seed=0)
    training, validation, test = (
        next(iter(loader)) for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert training.support.y.shape == (4, 6)
    assert validation.support.y.shape == test.support.y.shape == (2, 3)
    assert not torch.equal(validation.support.x, test.support.x)


def test_the_training_seed_does_not_move_what_is_scored() -> None:
    one, two = module(seed=1), module(seed=2)
    assert torch.equal(next(iter(one.val_dataloader())).query.x, next(iter(two.val_dataloader())).query.x)
    assert not torch.equal(next(iter(one.train_dataloader())).query.x, next(iter(two.train_dataloader())).query.x)


def test_nothing_is_drawn_from_a_split_before_it_is_asked_for() -> None:
    Blobs.drawn.clear()
    data = module()
    list(data.val_dataloader())
    assert {split for split, _ in Blobs.drawn} == {"validation"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"meta_batch": 0}, "outer.meta_batch=0"),
        ({"interval": 0}, "validation.every=0"),
        ({"eval_batch": -1}, "evaluation.batch=-1"),
        ({"validation_episodes": 1}, "validation.episodes=1"),
        ({"test_episodes": 0}, "evaluation.episodes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"eval_seed": 2**32}, "evaluation.seed=4294967296"),
    ],
)
def test_a_plan_that_cannot_be_names_its_key(changes: dict[str, int], key: str) -> None:
    with pytest.raises(UserError, match=key):
        EpisodePlan(**PLAN | changes)


def test_a_meta_batch_that_ranks_cannot_share() -> None:
    with pytest.raises(UserError, match=r"outer\.meta_batch=4 cannot be shared by 3 ranks"):
        module(ranks=3).train_dataloader()
