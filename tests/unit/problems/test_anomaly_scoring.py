"""Scores, losses and the baseline of anomaly scoring."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from metaloop.errors import UserError
from metaloop.problems.anomaly_scoring import AnomalyScoring
from metaloop.problems.task_loss import BalancedLogistic, DeepSAD
from metaloop.types import Examples

PROBLEM = AnomalyScoring()


def test_scores_are_those_of_scikit_learn_and_padding_does_not_count() -> None:
    random = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(3, 50, 1, generator=random), (torch.rand(3, 50, 1, generator=random) < 0.3).float()
    mask = torch.arange(50).expand(3, -1) < torch.tensor([[50], [40], [30]])
    found = PROBLEM.scores(outputs, Examples(torch.zeros(3, 50, 2), y, mask))
    for task, rows in enumerate((50, 40, 30)):
        labels, scores = y[task, :rows, 0].numpy(), outputs[task, :rows, 0].numpy()
        assert found["score"][task].item() == pytest.approx(roc_auc_score(labels, scores))
        assert found["average_precision"][task].item() == pytest.approx(average_precision_score(labels, scores))
    recalls = [found[name] for name in found if name.startswith("recall_at_")]
    assert all(bool((low <= high).all()) for low, high in pairwise(recalls))


def test_an_episode_of_one_kind_has_the_score_of_chance() -> None:
    found = PROBLEM.scores(torch.randn(1, 5, 1), Examples(torch.zeros(1, 5, 2), torch.zeros(1, 5, 1)))
    assert found["score"].item() == 0.5


def test_both_kinds_weigh_alike_in_the_loss() -> None:
    outputs, y = torch.randn(30, 1, dtype=torch.float64), torch.zeros(30, 1, dtype=torch.float64)
    y[:4] = 1.0
    mask = torch.ones(30, dtype=torch.bool)
    mask[[2, 3, 20]] = False
    each = F.binary_cross_entropy_with_logits(outputs, y, reduction="none")[:, 0]
    expected = (each[:2].mean() + each[mask & (y[:, 0] == 0)].mean()) / 2
    assert BalancedLogistic()(outputs, Examples(outputs, y, mask)).item() == pytest.approx(expected.item())
    alone = BalancedLogistic()(outputs[4:], Examples(outputs[4:], y[4:]))
    assert alone.item() == pytest.approx(each[4:].mean().item())
    with pytest.raises(UserError, match="outputs have the shape"):
        BalancedLogistic()(outputs[:, 0], Examples(outputs, y))


def test_deep_sad_is_equation_7() -> None:
    squares, y = torch.tensor([[0.5], [2.0], [4.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    loss = DeepSAD(eta=3.0)(squares.log(), Examples(squares, y))
    assert loss.item() == pytest.approx((0.5 + 2.0 + 3.0 / 4.0) / 3)
    with pytest.raises(UserError, match=r"eta=0"):
        DeepSAD(eta=0)


def test_the_baseline_is_the_distance_to_the_nearest_inlier() -> None:
    x, query = torch.randn(1, 20, 2, 3), torch.randn(1, 9, 2, 3)
    y, mask = torch.zeros(1, 20, 1), torch.ones(1, 20, dtype=torch.bool)
    y[0, 15:], mask[0, :3] = 1.0, False
    baseline = PROBLEM.baseline((2, 3))
    assert baseline is not None
    expected = NearestNeighbors(n_neighbors=1).fit(x[0, 3:15].flatten(1)).kneighbors(query[0].flatten(1))[0]
    np.testing.assert_allclose(baseline.answer(Examples(x, y, mask), query)[0], expected, rtol=1e-4)
