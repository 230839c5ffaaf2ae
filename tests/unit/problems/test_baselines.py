"""Baselines."""

import torch

from metaloop.problems.baselines import nearest_neighbour, support_mean
from metaloop.types import Examples


def test_the_nearest_real_example_and_the_mean_of_values() -> None:
    support = Examples(
        torch.tensor([[[0.0], [10.0], [20.0]]]), torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]]), 3
    )
    found = nearest_neighbour(support, torch.tensor([[[1.0], [9.0], [30.0]]]))
    assert found.argmax(-1).tolist() == [[2, 0, 0]]
    values = Examples(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]))
    assert support_mean(values, torch.zeros(1, 4, 1)).flatten().tolist() == [2.0] * 4
