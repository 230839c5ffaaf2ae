"""Baselines and advantages of episodes, by definition."""

import numpy as np
import pytest
import torch

from metaloop.errors import UserError
from metaloop.learners.control.policy_gradient.baselines import LinearFeatures, NeuralBaseline, NoBaseline
from metaloop.learners.control.policy_gradient.played import AdvantageEstimator


def episodes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Observations (2, 4, 6, 3), rewards and which steps are real; some episodes end early."""
    torch.manual_seed(0)
    real = torch.arange(6) < torch.tensor([[6, 4, 5, 6], [3, 6, 6, 2]])[..., None]
    return torch.randn(2, 4, 6, 3), torch.randn(2, 4, 6) * real, real


def test_the_linear_baseline_is_least_squares_in_each_task() -> None:
    observations, returns, real = episodes()
    observations = observations * 20  # some are clipped
    values = LinearFeatures().values(observations, returns, real)
    for task in range(2):
        rows, targets, places = [], [], []
        for episode in range(4):
            for step in range(6):
                x = np.clip(observations[task, episode, step].double().numpy(), -10, 10)
                t = step / 100
                rows.append(np.concatenate([x, x**2, [t, t**2, t**3, 1.0]]))
                targets.append(float(returns[task, episode, step]))
                places.append(bool(real[task, episode, step]))
        kept = np.array(rows)[places]
        weights = np.linalg.solve(kept.T @ kept + 1e-5 * np.eye(10), kept.T @ np.array(targets)[places])
        assert np.allclose(values[task].flatten().numpy(), np.array(rows) @ weights, atol=1e-4)


def test_the_neural_baseline_is_a_network_fitted_by_adam_in_each_task() -> None:
    observations, returns, real = episodes()
    baseline = NeuralBaseline(hidden=5, steps=20, rate=0.05)
    values = baseline.values(observations, returns, real)
    for task in range(2):
        x, y, kept = observations[task].flatten(0, 1).double(), returns[task].flatten().double(), real[task].flatten()
        x = torch.cat([x, (torch.arange(6) / 6).repeat(4)[:, None].double()], 1)
        x = (x - x[kept].mean(0)) / x[kept].std(0, correction=0)
        level, scale = y[kept].mean(), y[kept].std(correction=0)
        weights = [w[0].requires_grad_() for w in baseline.start(1, 4, x.device)]
        adam = torch.optim.Adam(weights, lr=0.05)

        def predicted(x: torch.Tensor, w: list[torch.Tensor] = weights) -> torch.Tensor:
            return (torch.tanh(x @ w[0] + w[1]) @ w[2] + w[3])[:, 0]

        for _ in range(20):
            adam.zero_grad()
            (((predicted(x[kept]) - (y[kept] - level) / scale) ** 2).mean() / 2).backward()
            adam.step()
        assert torch.allclose(values[task].flatten().double(), predicted(x) * scale + level, atol=1e-5)


def test_the_neural_baseline_predicts_what_no_line_does_whatever_tasks_are_beside() -> None:
    torch.manual_seed(1)
    observations = torch.randn(3, 20, 10, 2)
    returns, real = (3 * observations[..., 0]).sin() * 5, torch.ones(3, 20, 10, dtype=torch.bool)
    neural, linear = NeuralBaseline(32, 60, 0.03), LinearFeatures()
    errors = [((each.values(observations, returns, real) - returns) ** 2).mean() for each in (neural, linear)]
    assert errors[0] < errors[1] / 4
    alone = neural.values(observations[1:2], returns[1:2], real[1:2])
    assert torch.allclose(alone, neural.values(observations, returns, real)[1:2], atol=1e-6)
    with torch.inference_mode():
        assert torch.equal(neural.values(observations[1:2], returns[1:2], real[1:2]), alone)
    with pytest.raises(UserError, match=r"algorithm\.baseline\.rate=0"):
        NeuralBaseline(32, 60, 0.0)


def test_advantages_are_standardized_over_the_real_steps_of_each_task() -> None:
    observations, rewards, real = episodes()
    raw = AdvantageEstimator(NoBaseline(), 0.9, 1.0, False).advantages(observations, rewards, real)
    expected = torch.zeros_like(rewards)
    for step in reversed(range(6)):
        expected[..., step] = rewards[..., step] + (0.9 * expected[..., step + 1] if step < 5 else 0)
    assert torch.allclose(raw, expected * real, atol=1e-6)
    standard = AdvantageEstimator(NoBaseline(), 0.9, 1.0, True).advantages(observations, rewards, real)
    for task in range(2):
        kept = raw[task][real[task]]
        assert torch.allclose(standard[task][real[task]], (kept - kept.mean()) / kept.std(correction=0), atol=1e-5)
    assert not standard[~real].any()
