"""The decoder of a task's latent variable, and the evidence lower bound that trains it (Zintgraf et al. 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.control.latent.likelihoods import FixedNormal, Likelihood
from metaloop.learners.control.latent.posterior import Posterior


@dataclass(frozen=True)
class Decoded:
    """What a decoder reads and predicts of the steps of trials.

    Attributes:
        observations: (steps, tasks, features), embedded, before each step.
        actions: (steps, tasks, count), one-hot if they are discrete.
        after: (steps, tasks, features), embedded, after each step.
        rewards: (steps, tasks).
    """

    observations: Tensor
    actions: Tensor
    after: Tensor
    rewards: Tensor

    def at(self, places: Tensor) -> "Decoded":
        """The steps at places (chosen, tasks) of each task."""

        def chosen(x: Tensor) -> Tensor:
            return x.gather(0, places[(...,) + (None,) * (x.ndim - 2)].expand(-1, -1, *x.shape[2:]))

        return Decoded(chosen(self.observations), chosen(self.actions), chosen(self.after), chosen(self.rewards))


class TwoInputs(nn.Module):
    """A perceptron of a latent variable and of a step, for all pairs of them.

    Args:
        latent: entries of the latent variable.
        inputs: width of what is read of a step.
        hidden: widths of the hidden layers, with ReLU.
        outputs: numbers that are answered.
    """

    def __init__(self, latent: int, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise UserError(f"algorithm.decoder={list(hidden)}: at least one width of at least 1")
        self.of_latent, self.of_step = nn.Linear(latent, hidden[0]), nn.Linear(inputs, hidden[0], bias=False)
        widths = [*hidden, outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, latent: Tensor, step: Tensor) -> Tensor:
        """Answer (draws, steps, tasks, outputs) for latents (draws, tasks, latent) and steps (steps, tasks, inputs)."""
        x: Tensor = self.of_latent(latent)[:, None] + self.of_step(step)
        for layer in self.layers:
            x = layer(F.relu(x))
        return x


class TaskDecoder(nn.Module):
    """Predicts rewards, and perhaps next observations, from the latent variable of the task.

    A reward is predicted from observation, action and next observation, a next observation from observation and action.

    Args:
        latent: entries of the latent variable.
        features: width of an embedded observation.
        count: width of an action.
        hidden: widths of the hidden layers.
        rewards: likelihood of rewards.
        transitions: deviation with which next observations are predicted; None for no such prediction.
    """

    def __init__(
        self, latent: int, features: int, count: int, hidden: Sequence[int], rewards: Likelihood, transitions: float | None
    ) -> None:
        super().__init__()
        self.rewards = rewards
        self.of_reward = TwoInputs(latent, 2 * features + count, hidden, 1)
        self.transitions = None if transitions is None else FixedNormal(transitions)
        self.of_transition = None if transitions is None else TwoInputs(latent, features + count, hidden, features)

    def log_likelihood(self, latent: Tensor, steps: Decoded) -> Tensor:
        """Return the log-likelihood (draws, steps, tasks) of each step given each latent variable (draws, tasks, latent)."""
        before = torch.cat([steps.observations, steps.actions], -1)
        answers = self.of_reward(latent, torch.cat([before, steps.after], -1))[..., 0]
        result = self.rewards.log_probability(answers, steps.rewards.expand_as(answers))
        if self.of_transition is not None and self.transitions is not None:
            answers = self.of_transition(latent, before)
            result = result + self.transitions.log_probability(answers, steps.after.expand_as(answers)).sum(-1)
        return result


def strata(uniform: Tensor, count: int) -> Tensor:
    """Turn uniform numbers (chosen, tasks) into places in [0, count), one in each of as many equal stretches.

    Every place is as likely as any other, over all the numbers of a task together.
    """
    chosen = len(uniform)
    number = torch.arange(chosen, device=uniform.device)[:, None]
    return ((number + uniform.double()) / chosen * count).long().clamp(max=count - 1)


def divergences(posteriors: Posterior) -> Tensor:
    """Divergences (steps + 1, tasks) of posteriors (steps + 1, tasks, latent) from the one before, the first from the prior."""
    first = Posterior.prior(posteriors.mean[:1])
    before = Posterior(
        torch.cat([first.mean, posteriors.mean[:-1]]), torch.cat([first.log_variance, posteriors.log_variance[:-1]])
    )
    return posteriors.divergence(before)
