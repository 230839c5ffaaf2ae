"""The plane of an episode's embeddings, and what is said without scikit-learn."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from metaloop.errors import UserError
from metaloop.evaluation.embedding_map import check_available, embedding_map
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.comparisons.local_descriptors import LocalDescriptors
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Tasks


class Identity(nn.Module):
    """An embedding that is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift


def one_task(query_mask: torch.Tensor | None = None) -> Tasks:
    support = Examples(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]), None, 2)
    query = Examples(torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 1]), query_mask, 2)
    return Tasks(support, query, torch.tensor(5))


def test_it_is_the_plane_of_the_largest_variance() -> None:
    one = one_task()
    found = embedding_map(MetricLearner(Identity(), CrossEntropy(), Euclidean(), Loop()), None, None, one)
    assert found is not None
    x = torch.cat([one.support.x, one.query.x]).double().numpy()
    x = x - x.mean(0)
    variances = np.linalg.svd(x, compute_uv=False) ** 2
    assert found["explained"] == pytest.approx((variances / variances.sum())[:2])
    assert (found["before"] ** 2).sum(0) == pytest.approx(variances[:2])
    assert found["label"].tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 1]
    assert found["is_query"].tolist() == [False] * 4 + [True] * 6
    assert "after" not in found
    assert found["index"] == 5


def test_padding_is_left_out() -> None:
    one = one_task(torch.tensor([True, False, True, True, True, False]))
    found = embedding_map(MetricLearner(Identity(), CrossEntropy(), Euclidean(), Loop()), None, None, one)
    assert found is not None
    assert len(found["before"]) == len(found["label"]) == 8


@pytest.mark.parametrize("width", [1, 4])
def test_one_dimension_or_none_is_drawn_on_a_line_or_point(width: int) -> None:
    model = MLP((3,), None, [width])
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(0.0 if width > 1 else 1.0)
    found = embedding_map(MetricLearner(model, CrossEntropy(), Euclidean(), Loop()), None, None, one_task())
    assert found is not None
    assert found["before"].shape == (10, 2)
    assert not found["before"][:, 1].any()
    assert found["before"][:, 0].any() == (width == 1)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(UserError, match=r"pip install 'metaloop\[inspect\]'"):
        check_available()


def test_feature_maps_are_points_too() -> None:
    model = Conv4((1, 8, 8), None, filters=4, halvings=2)
    support = Examples(torch.randn(4, 1, 8, 8), torch.tensor([0, 0, 1, 1]), None, 2)
    one = Tasks(support, Examples(torch.randn(2, 1, 8, 8), torch.tensor([0, 1]), None, 2), torch.tensor(5))
    found = embedding_map(MetricLearner(model, CrossEntropy(), LocalDescriptors(), Loop()), None, None, one)
    assert found is not None
    assert found["before"].shape == (6, 2)
