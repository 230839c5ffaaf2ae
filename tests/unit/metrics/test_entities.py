"""Entity F1 against seqeval's own."""

import warnings
from itertools import chain

import numpy as np
import pytest
import torch
from scipy import stats
from seqeval.metrics import f1_score

from metaloop.metrics import entities
from metaloop.metrics.interval import mean_interval

SEQUENCE = torch.arange(6).repeat_interleave(torch.tensor([4, 1, 7, 3, 5, 2]))


def tags(labels: torch.Tensor, real: torch.Tensor) -> list[list[str]]:
    return [[f"I-{k}" if k else "O" for k in labels[real & (s == SEQUENCE)].tolist()] for s in range(6)]


def some(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (9, 22), generator=generator)
    said = torch.where(torch.rand(9, 22, generator=generator) < 0.7, labels, torch.randint(0, 3, (9, 22), generator=generator))
    return said, labels, torch.arange(22).expand(9, 22) < torch.randint(8, 23, (9, 1), generator=generator)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_seqevals_within_episodes_and_over_all(seed: int, masked: bool) -> None:
    said, labels, real = some(seed)
    mask = real if masked else None
    real = real if masked else torch.ones_like(real)
    found = entities.counts(said, labels, SEQUENCE.expand(9, -1), mask)
    truths, guesses = ([tags(row, keep) for row, keep in zip(rows, real, strict=True)] for rows in (labels, said))
    expected = [f1_score(truth, guess) for truth, guess in zip(truths, guesses, strict=True)]
    np.testing.assert_allclose(entities.f1(found), expected, rtol=1e-6)
    pooled = f1_score(list(chain.from_iterable(truths)), list(chain.from_iterable(guesses)))
    np.testing.assert_allclose(entities.pooled_f1(found).mean(), pooled, rtol=1e-12)


def test_neighbours_in_two_sentences_are_two_entities() -> None:
    labels = torch.tensor([[1, 1, 1, 0]])
    apart = entities.counts(labels, labels, torch.tensor([[0, 1, 1, 1]]))
    assert apart.tolist() == [[2, 2, 2]]
    assert entities.counts(labels, labels, torch.zeros(1, 4)).tolist() == [[1, 1, 1]]


def test_nothing_said_is_nothing_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = entities.counts(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[1, 0, 2]]), torch.zeros(1, 3))
    assert found.tolist() == [[0, 0, 2]]
    assert entities.f1(found).tolist() == [0.0]
    assert entities.pooled_f1(torch.zeros(4, 3)).tolist() == [0.0] * 4


def test_the_pooled_interval_covers_what_it_says() -> None:
    """The delta method beside the spread of 400 repetitions."""
    generator = np.random.default_rng(0)
    pooled, half = [], []
    for _ in range(400):
        there = generator.integers(3, 12, 60)
        said = generator.integers(3, 12, 60)
        right = generator.binomial(np.minimum(said, there), 0.6)
        found = mean_interval(entities.pooled_f1(torch.tensor(np.stack([right, said, there], 1))).numpy())
        pooled.append(found.mean)
        half.append(found.half_width)
    assert np.mean(half) == pytest.approx(np.std(pooled) * stats.t.ppf(0.975, 59), rel=0.1)
