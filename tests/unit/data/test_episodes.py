"""Episode i is the same alone, in any batch, of any rank and in any block."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaloop.data import episodes as module
from metaloop.data.episodes import Episodes
from metaloop.data.functions.sinusoid import Sinusoids
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Tasks

POOL = ClassPool(torch.arange(48, dtype=torch.uint8).view(48, 1, 1, 1), [6] * 8, [str(k) for k in range(8)], split="train")
SPEC = EpisodeSpec((2, 3), (1, 2), 2)
EPISODES = Episodes(POOL, SPEC, Stream(5, "train"))


def parts(tasks: Tasks) -> list[torch.Tensor]:
    found = []
    for examples in (tasks.support, tasks.query):
        assert examples.mask is not None
        found += [examples.x, examples.y, examples.mask]
    assert tasks.support.number is not None
    return [*found, tasks.index, tasks.support.number]


ALL = parts(EPISODES.tasks(torch.arange(64)))


@given(st.integers(0, 40), st.integers(0, 20), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_batches_are_the_same_episodes(first: int, length: int, size: int, ranks: int, block: int) -> None:
    stop = first + length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BATCHES", block)
        of_rank = [list(EPISODES.batches(first, stop, size, "cpu", rank=rank, ranks=ranks)) for rank in range(ranks)]
    drawn = [tasks for batches in of_rank for tasks in batches]
    assert sorted(int(n) for tasks in drawn for n in tasks.index) == list(range(first, stop))
    for tasks in drawn:
        for got, whole in zip(parts(tasks), ALL, strict=True):
            assert torch.equal(got, whole[tasks.index])


def test_one_rank_gets_consecutive_batches_and_a_short_last_one() -> None:
    batches = [tasks.index.tolist() for tasks in EPISODES.batches(3, 13, 4, "cpu")]
    assert batches == [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]


def test_ranks_share_each_batch() -> None:
    ranks = [[t.index.tolist() for t in EPISODES.batches(0, 8, 4, "cpu", rank=rank, ranks=2)] for rank in range(2)]
    assert ranks == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


def test_order_and_company_do_not_matter() -> None:
    numbers = torch.tensor([40, 2, 63, 2])
    for got, whole in zip(parts(EPISODES.tasks(numbers)), ALL, strict=True):
        assert torch.equal(got, whole[numbers])


def test_other_seeds_and_splits_are_other_episodes() -> None:
    for stream in (Stream(6, "train"), Stream(5, "test")):
        other = parts(Episodes(POOL, SPEC, stream).tasks(torch.arange(64)))
        assert not torch.equal(other[0], ALL[0])


def test_functions_too() -> None:
    episodes = Episodes(Sinusoids((0.1, 5.0), (0.0, 3.0), (-5.0, 5.0)), EpisodeSpec(1, 5, 10), Stream(0, "test"))
    whole = episodes.tasks(torch.arange(30))
    for tasks in episodes.batches(7, 30, 5, "cpu"):
        assert torch.equal(tasks.query.y, whole.query.y[tasks.index])


def test_the_size_is_checked_at_once() -> None:
    with pytest.raises(UserError, match=r"episode\.ways=9"):
        Episodes(POOL, EpisodeSpec(9, 1, 1), Stream(0, "train"))


def test_what_is_drawn_within_a_task_differs_between_tasks_splits_and_seeds() -> None:
    found = set()
    for stream in (Stream(5, "train"), Stream(5, "test"), Stream(6, "train")):
        number = Episodes(POOL, SPEC, stream).tasks(torch.arange(50)).support.number
        assert number is not None
        assert 0 <= number.min() < number.max() < 2**40
        found |= set(number.tolist())
    assert len(found) == 150
