"""Generalized advantages of the steps of a trial or an episode."""

import torch
from torch import Tensor


def generalized_advantages(rewards: Tensor, values: Tensor, real: Tensor, discount: float, trace: float) -> Tensor:
    """Generalized advantages of a trial (Schulman et al. 2016, equation 16), after whose last step the value is 0.

    Steps that are not real, in which a task waits for others, are passed over: the real one before is followed by the real one
    after, and nothing is discounted between.

    Args:
        rewards: (steps, tasks).
        values: (steps, tasks), before each step.
        real: (steps, tasks) bool.
        discount: how much a reward counts that comes a step later.
        trace: lambda.

    Returns:
        (steps, tasks); of steps that are not real, of no meaning.
    """
    advantages, later, following = [], torch.zeros_like(rewards[0]), torch.zeros_like(values[0])
    for reward, value, exists in zip(rewards.flip(0), values.flip(0), real.flip(0), strict=True):
        advantage = reward + discount * following - value + discount * trace * later
        advantages.append(advantage)
        later, following = torch.where(exists, advantage, later), torch.where(exists, value, following)
    return torch.stack(advantages[::-1])
