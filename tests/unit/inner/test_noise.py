"""Random numbers within a task: known values, distribution, independence, and the same everywhere."""

import pytest
import torch
from scipy import stats

from metaloop.errors import UserError
from metaloop.inner.noise import normal, task_number, uniform
from metaloop.system.counter_random import scattered
from metaloop.types import Examples


def lowbias32(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_the_hash_is_the_published_one() -> None:
    for value in (0, 1, 2, 12345, 2**31, 2**32 - 1):
        assert scattered(torch.tensor(value)).item() == lowbias32(value)


@pytest.mark.parametrize("number", [0, 7, 2**40 + 1])
def test_normal_numbers_are_normal(number: int) -> None:
    drawn = normal(torch.tensor(number), 0, (20_000,), torch.float64)
    assert stats.kstest(drawn.numpy(), "norm").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([drawn[1:], drawn[:-1]]))[0, 1]) < 0.03


def test_numbers_streams_and_high_bits_give_independent_draws() -> None:
    draws = [normal(torch.tensor(n), s, (5_000,), torch.float64) for n, s in ((0, 0), (1, 0), (0, 1), (1, 1), (2**32, 0))]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(5)
    assert correlation.abs().max() < 0.06


def test_the_same_in_the_loop_under_vmap_and_in_both_types() -> None:
    numbers = torch.tensor([3, 99, 2**35])
    stacked = torch.func.vmap(lambda n: normal(n, 2, (4, 3), torch.float32))(numbers)
    for row, number in zip(stacked, numbers, strict=True):
        assert torch.equal(row, normal(number, 2, (4, 3), torch.float32))
        assert torch.equal(row, normal(number, 2, (4, 3), torch.float64).float())
    assert 0 < uniform(numbers[0], 0, (1000,)).min() < uniform(numbers[0], 0, (1000,)).max() < 1


def test_an_unnumbered_task_is_refused() -> None:
    with pytest.raises(UserError, match=r"Examples\.number"):
        task_number(Examples(torch.zeros(1), torch.zeros(1)))
