"""Baselines and advantages of episodes, by definition."""

import numpy as np
import torch

from metaloop.learners.control.policy_gradient.baselines import LinearFeatures, NoBaseline
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
