"""The area under the ROC curve of several classes equals scikit-learn's."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from metaloop.metrics.classification import area_under_roc_of_classes


@pytest.mark.parametrize("ways", [2, 4])
def test_equals_scikit_learns(ways: int) -> None:
    random = torch.Generator().manual_seed(ways)
    scores = torch.randn(3, 30, ways, generator=random).mul(2).round().softmax(-1).double()  # with ties
    labels = torch.arange(30).expand(3, -1) % ways
    areas = area_under_roc_of_classes(scores, labels)
    for task in range(3):
        given = scores[task, :, 1] if ways == 2 else scores[task]
        expected = roc_auc_score(labels[task], given, multi_class="ovr")
        assert areas[task].item() == pytest.approx(expected, abs=1e-9)


def test_padding_does_not_count_and_one_class_is_chance() -> None:
    scores, labels = torch.rand(1, 10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10)[None] % 3
    mask = torch.arange(10)[None] < 6
    found = area_under_roc_of_classes(scores, labels, mask)
    torch.testing.assert_close(found, area_under_roc_of_classes(scores[:, :6], labels[:, :6]))
    assert area_under_roc_of_classes(scores, torch.zeros_like(labels)).tolist() == [0.5]
