"""Similarity of representations against its definition."""

import math

import pytest
import torch

from metaloop.metrics.similarity import linear_cka, mean_cosine


def hsic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Gretton et al. 2005, with linear kernels and the centring matrix written out."""
    n = len(first)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    return torch.trace(first @ first.T @ centring @ second @ second.T @ centring) / (n - 1) ** 2


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64) + 3


def test_linear_cka_is_the_normalised_hsic() -> None:
    first, second = rows(9, 4), rows(9, 6)
    expected = hsic(first, second) / (hsic(first, first) * hsic(second, second)).sqrt()
    torch.testing.assert_close(linear_cka(first, second), expected)
    a, b = first - first.mean(0), second - second.mean(0)
    torch.testing.assert_close(expected, (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm()))


def test_linear_cka_sees_neither_turns_nor_scale_nor_shifts_but_other_maps() -> None:
    first, second = rows(9, 4), rows(9, 5)
    turn = torch.linalg.qr(rows(4, 4)).Q
    torch.testing.assert_close(linear_cka(7 * first @ turn + 2, second), linear_cka(first, second))
    assert linear_cka(first * torch.tensor([9.0, 1.0, 1.0, 1.0]), second) != pytest.approx(linear_cka(first, second).item())


def test_what_is_the_same_is_at_one() -> None:
    maps = torch.rand(5, 3, 2, 2)
    assert linear_cka(maps, maps).item() == pytest.approx(1)
    assert mean_cosine(maps, 2 * maps).item() == pytest.approx(1)


def test_cosines_are_meant_over_the_examples_that_have_a_direction() -> None:
    first = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    second = torch.tensor([[0.0, 2.0], [-1.0, -1.0], [1.0, 0.0]])
    assert mean_cosine(first, second).item() == pytest.approx(-0.5)


def test_what_has_no_variance_or_direction_has_no_similarity() -> None:
    assert math.isnan(linear_cka(torch.ones(4, 2), rows(4, 2)))
    assert math.isnan(mean_cosine(torch.zeros(4, 2), rows(4, 2)))
