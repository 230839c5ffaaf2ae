"""The share of the gap left."""

import pytest
import torch

from metaloop.problems.algorithm_selection import AlgorithmSelection
from metaloop.types import Examples

Y = torch.tensor([[0.9, 0.8, 0.8], [0.5, 0.7, 0.7], [0.6, 0.4, 0.4]])[:, None]  # the last is the single best, the second
PROBLEM = AlgorithmSelection(0.1, "predictive_accuracy", ("a", "b"), ("f",))


def scores(choice: list[int]) -> dict[str, torch.Tensor]:
    outputs = torch.nn.functional.one_hot(torch.tensor(choice), 3).float()[:, None]
    return PROBLEM.scores(outputs, Examples(torch.zeros(3, 1, 2, 1), Y))


def test_the_single_best_leaves_all_of_the_gap_and_the_oracle_nothing() -> None:
    assert torch.allclose(scores([2, 2, 2])["score"], torch.ones(3))
    assert torch.allclose(scores([1, 1, 1])["changed"], torch.zeros(3))
    gap = (Y.max(-1).values - Y[..., -1]).mean()
    assert gap == pytest.approx(0.1)
    assert scores([0, 1, 0])["score"].mean() == pytest.approx(0.0, abs=1e-6)


def test_a_gain_is_measured_in_gaps() -> None:
    found = scores([0, 0, 2])
    assert torch.allclose(found["score"], torch.tensor([0.0, 3.0, 1.0]), atol=1e-6)
    assert torch.allclose(found["performance"], torch.tensor([0.9, 0.5, 0.4]))


def test_the_baseline_is_the_single_best() -> None:
    baseline = PROBLEM.baseline((2, 1))
    assert baseline is not None
    support = Examples(torch.zeros(1, 2, 2, 1), torch.tensor([[[0.1, 0.5, 0.5], [0.3, 0.4, 0.4]]]))
    answer = baseline.answer(support, torch.zeros(1, 1, 2, 1))
    assert answer.argmax(-1).item() == 2  # the last entry
    assert answer.shape == (1, 1, 3)
    assert not PROBLEM.metric.higher_is_better
