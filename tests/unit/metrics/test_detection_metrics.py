"""Average precision and recall at alarms, against scikit-learn and by counting."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from metaloop.metrics.detection import average_precision, recall_at_alarms


@pytest.mark.parametrize("distinct", [3, 1000])  # few distinct scores: many ties
def test_average_precision_is_scikit_learns(distinct: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = random.integers(0, distinct, 60).astype(float), random.random(60) < 0.2
        labels[0] = True
        found = average_precision(torch.from_numpy(scores), torch.from_numpy(labels)).item()
        assert found == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_recall_is_that_of_the_highest_scores() -> None:
    scores, anomalous = torch.arange(200.0), torch.zeros(200, dtype=torch.bool)
    anomalous[[199, 197, 5, 4]] = True
    assert recall_at_alarms(scores, anomalous, 0.01).item() == pytest.approx(1 / 4)  # 2 alarms: 199 and 198
    assert recall_at_alarms(scores, anomalous, 0.02).item() == pytest.approx(2 / 4)
    assert recall_at_alarms(scores, anomalous, 1.0).item() == 1.0
    assert recall_at_alarms(scores[:10], anomalous[:10], 0.01).item() == 0.0  # one alarm at least, at 9


def test_recall_with_equal_scores_is_its_mean_over_their_orders() -> None:
    random = np.random.default_rng(1)
    scores, anomalous = torch.from_numpy(random.integers(0, 4, 40)).double(), torch.from_numpy(random.random(40) < 0.3)
    tries = []
    for _ in range(4000):
        order = torch.from_numpy(random.permutation(40))
        top = scores[order].argsort(descending=True, stable=True)[:6]
        tries.append((anomalous[order][top].sum() / anomalous.sum()).item())
    assert recall_at_alarms(scores, anomalous, 0.15).item() == pytest.approx(np.mean(tries), abs=0.02)


def test_without_anomalies_both_are_zero() -> None:
    scores, none = torch.randn(10), torch.zeros(10, dtype=torch.bool)
    assert average_precision(scores, none).item() == recall_at_alarms(scores, none, 0.1).item() == 0.0
