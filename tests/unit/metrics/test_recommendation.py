"""nDCG by scikit-learn and by hand, and damped means."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from metaloop.metrics.recommendation import damped_means, ndcg


def stars(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.integers(0, 5, shape).astype(float)


@pytest.mark.parametrize("k", [1, 5, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_ndcg_is_that_of_scikit_learn(k: int, ties: bool) -> None:
    random = np.random.default_rng(0)
    relevance = stars(random, 20, 12)
    predicted = np.round(random.normal(size=(20, 12)) * (2 if ties else 1e9))
    found = ndcg(torch.from_numpy(predicted), torch.from_numpy(relevance), k)
    for task in range(20):
        expected = ndcg_score(2 ** relevance[task : task + 1] - 1, predicted[task : task + 1], k=k)
        assert found[task].item() == pytest.approx(expected, abs=1e-12)


def test_padding_is_not_ranked() -> None:
    random = np.random.default_rng(1)
    relevance, predicted = torch.from_numpy(stars(random, 4, 9)), torch.from_numpy(random.normal(size=(4, 9)))
    mask = torch.arange(9) < torch.tensor([[9], [7], [5], [2]])
    padded = ndcg(predicted.masked_fill(~mask, 99.0), relevance, 3, mask)
    for task, count in enumerate((9, 7, 5, 2)):
        alone = ndcg(predicted[task : task + 1, :count], relevance[task : task + 1, :count], 3)
        assert padded[task].item() == pytest.approx(alone.item(), abs=1e-12)


def test_ndcg_by_hand() -> None:
    predicted, relevance = torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([[1.0, 4.0, 0.0]])
    found = 1 / math.log2(2) + 15 / math.log2(3)
    best = 15 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(predicted, relevance, 5).item() == pytest.approx(found / best)
    assert ndcg(predicted, torch.zeros(1, 3), 5).item() == 1.0


def test_damped_means_have_further_zeros() -> None:
    values, groups = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, 2])
    assert damped_means(values, groups, 3, 2.0).tolist() == pytest.approx([3 / 4, 0.0, 3 / 3])
    assert damped_means(values, groups, 3, 0.0).tolist() == [1.5, 0.0, 3.0]
