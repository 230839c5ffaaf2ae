"""Random numbers by counter: the published bits, and draws that are uniform and distinct."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metaloop.data import philox
from metaloop.data.philox import Stream
from metaloop.system.counter_random import philox4x32


def word(value: int) -> torch.Tensor:
    return torch.tensor([value])


# Known answers that come with the authors' Random123 library: zeros, ones, and digits of pi.
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]) -> None:
    c0, c1, c2, c3 = map(word, counter)
    assert tuple(int(out) for out in philox4x32((c0, c1, c2, c3), key)) == answer


def test_what_is_drawn_in_parts_is_what_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.randint(0, 2**50, (50,))
    whole = Stream(3, "train").bits(numbers, 10, "classes")
    for cached in (1, 7, 12):
        monkeypatch.setattr(philox, "_CACHED", cached)
        assert torch.equal(Stream(3, "train").bits(numbers, 10, "classes"), whole)


def test_a_word_depends_on_episode_seed_split_and_purpose_alone() -> None:
    numbers = torch.arange(50)
    bits = Stream(3, "train").bits(numbers, 6, "classes")
    assert torch.equal(bits[:, :5], Stream(3, "train").bits(numbers, 5, "classes"))
    assert torch.equal(bits[17:18], Stream(3, "train").bits(torch.tensor([17]), 6, "classes"))
    for other in (Stream(4, "train").bits(numbers, 6, "classes"), Stream(3, "test").bits(numbers, 6, "classes")):
        assert not (bits == other).any()
    assert not (bits == Stream(3, "train").bits(numbers, 6, "drawings")).any()
    assert not (bits == Stream(3, "train").bits(numbers + 2**32, 6, "classes")).any()


def test_real_numbers_have_their_distributions() -> None:
    stream, numbers = Stream(0, "train"), torch.arange(20_000)
    assert stats.kstest(stream.uniform(numbers, 2, "u").flatten().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(stream.normal(numbers, 2, "n").flatten().numpy(), "norm").pvalue > 0.01
    counts = torch.bincount(stream.integers(numbers, 2, "i", 7).flatten(), minlength=7)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
@settings(max_examples=60, deadline=None)
def test_draws_without_replacement_are_distinct_and_in_range(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(sizes)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    numbers = torch.tensor(data.draw(st.lists(st.integers(0, 2**62), min_size=1, max_size=4)))
    bound = torch.tensor(sizes).expand(len(numbers), -1)
    drawn = Stream(seed, "train").without_replacement(numbers, bound, count, "drawings")
    assert drawn.shape == (len(numbers), len(sizes), count)
    assert ((drawn >= 0) & (drawn < bound[..., None])).all()
    assert all(len(set(group)) == count for episode in drawn.tolist() for group in episode)


@pytest.mark.parametrize(("size", "count"), [(4, 2), (4, 4), (6, 3)])
def test_every_ordered_draw_is_equally_likely(size: int, count: int) -> None:
    episodes = 24_000
    drawn = Stream(1, "train").without_replacement(torch.arange(episodes), torch.full((episodes, 1), size), count, "x")[:, 0]
    code = (drawn * torch.tensor([size**k for k in range(count)])).sum(-1).numpy()
    _, counts = np.unique(code, return_counts=True)
    assert len(counts) == int(np.prod(range(size - count + 1, size + 1)))
    assert stats.chisquare(counts).pvalue > 0.01
