"""Learned weights of examples and learned noise: what they compute, and refusals."""

import pytest
import torch
from scipy import stats

from metaloop.errors import UserError
from metaloop.learners.gradient.augmentation import GaussianNoise
from metaloop.learners.gradient.support_loss import LearnedWeights
from metaloop.types import Examples


def made(units: int = 6) -> LearnedWeights:
    loss = LearnedWeights(units, highest=3.0).double()
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in loss.parameters():
            value.add_(torch.randn(value.shape, generator=random, dtype=value.dtype))
    return loss


def test_the_gradient_of_the_loss_is_the_mean_of_the_weighted_gradients() -> None:
    loss, losses = made(), torch.linspace(0, 6, 9, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(losses, None), losses)
    torch.testing.assert_close(gradient, loss.weights(losses.detach()) / 9, rtol=1e-7, atol=1e-9)
    assert ((loss.weights(losses) > 0) & (loss.weights(losses) < 2)).all()


def test_weights_are_the_mixture_written_out() -> None:
    loss = made(2)
    up, down = loss.shares.softmax(0)
    (c0, c1), (r0, r1) = loss.centres, loss.log_slopes.exp()
    at = torch.tensor([0.7], dtype=torch.float64)
    expected = 2 * (up * torch.sigmoid(r0 * (at - c0)) + down * torch.sigmoid(-r1 * (at - c1)))
    torch.testing.assert_close(loss.weights(at), expected)


def test_an_outlier_can_be_weighted_down() -> None:
    loss = LearnedWeights(2, highest=3.0).double()
    with torch.no_grad():
        loss.shares.copy_(torch.tensor([-20.0, 20.0]))
        loss.centres.fill_(2.0)
        loss.log_slopes.fill_(2.0)
    low, high = loss.weights(torch.tensor([0.5, 5.0], dtype=torch.float64))
    assert low > 1.99
    assert high < 0.01


def test_noise_has_its_strength_and_is_new_in_every_task_and_step() -> None:
    noise = GaussianNoise(0.3)
    draws = []
    for number, step in ((0, 0), (0, 1), (1, 0), (2**33, 0), (0, 99)):
        support = Examples(torch.ones(40, 100), torch.zeros(40), number=torch.tensor(number))
        draws.append((noise(support, step) - 1).detach().flatten())
        assert stats.kstest((draws[-1] / 0.3).numpy(), "norm").pvalue > 1e-3
    assert (torch.corrcoef(torch.stack(draws)) - torch.eye(5)).abs().max() < 0.06


def test_what_cannot_be_learned_is_refused() -> None:
    for units in (0, 3):
        with pytest.raises(UserError, match=rf"support_loss\.units={units}"):
            LearnedWeights(units, 1.0)
    with pytest.raises(UserError, match=r"support_loss\.highest=0"):
        LearnedWeights(2, 0.0)
    with pytest.raises(UserError, match=r"augmentation\.strength=0"):
        GaussianNoise(0.0)
    text = Examples({"input_ids": torch.zeros(2, 3)}, torch.zeros(2), number=torch.tensor(0))
    with pytest.raises(UserError, match="gaussian_noise"):
        GaussianNoise(0.1)(text, 0)
