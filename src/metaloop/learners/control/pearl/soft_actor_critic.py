"""Soft actor-critic (Haarnoja et al. 2018) of observations and a latent variable of the task."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.control.noise import normal
from metaloop.models.mlp import MLP

_LOWEST, _HIGHEST = -20.0, 2.0  # of logarithms of deviations, as in the authors' code


@dataclass(frozen=True)
class Batch:
    """Transitions of tasks, (tasks, batch, ...) each.

    Attributes:
        observations, after: (tasks, batch, features), before and after the step.
        actions: (tasks, batch, count), in [-1, 1].
        rewards: (tasks, batch).
        ended: (tasks, batch), 1 where the episode ended with the step for another reason than its length, else 0.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    after: Tensor
    ended: Tensor


class SquashedActor(nn.Module):
    """A normal distribution whose draws are squashed into [-1, 1] by tanh.

    Args:
        inputs: width of observation and latent variable together.
        count: entries of an action.
        hidden: widths of the hidden layers, with ReLU.
    """

    def __init__(self, inputs: int, count: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = MLP((inputs,), 2 * count, hidden)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the deviation (..., count) before squashing."""
        mean, log_deviation = self.net(x.flatten(0, -2)).view(*x.shape[:-1], -1).chunk(2, -1)
        return mean, log_deviation.clamp(_LOWEST, _HIGHEST)

    def drawn(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Draw actions (..., count) by uniform numbers (..., 2 * count); return them and their log-densities (...)."""
        mean, log_deviation = self.moments(x)
        standard = normal(*uniform.chunk(2, -1)).to(mean)
        raw = mean + log_deviation.exp() * standard
        density = -0.5 * standard**2 - log_deviation - 0.5 * math.log(2 * math.pi)
        stretch = 2 * (math.log(2) - raw - F.softplus(-2 * raw))  # log of the derivative of tanh
        return raw.tanh(), (density - stretch).sum(-1)


class TwinCritics(nn.Module):
    """Two networks of observation, action and latent variable that predict the soft return.

    Args:
        inputs: width of all three together.
        hidden: widths of the hidden layers, with ReLU.
    """

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(MLP((inputs,), 1, hidden) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return both predictions (2, ...) for x (..., inputs)."""
        rows = x.flatten(0, -2)
        return torch.stack([net(rows).view(x.shape[:-1]) for net in self.nets])


class SoftActorCritic(nn.Module):
    """Actor, twin critics with slowly following targets, and the temperature.

    Args:
        features: width of an observation.
        latent: entries of the latent variable.
        count: entries of an action.
        hidden: widths of the hidden layers of each network.
        temperature: worth of a nat of the policy's entropy at the start, in rewards.
        entropy: entropy in nats, of actions in [-1, 1], at which the temperature holds the policy; None to leave it as it is.
        discount: how much a reward counts that comes a step later.
        follow: share of the critics that goes into the targets after each step.
    """

    def __init__(
        self,
        features: int,
        latent: int,
        count: int,
        hidden: Sequence[int],
        *,
        temperature: float,
        entropy: float | None,
        discount: float,
        follow: float,
    ) -> None:
        super().__init__()
        self.actor = SquashedActor(features + latent, count, hidden)
        self.critics = TwinCritics(features + latent + count, hidden)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=entropy is not None)
        self.entropy = entropy
        self.discount = discount
        self.follow = follow

    @torch.no_grad()
    def move_targets(self) -> None:
        """Move the targets towards the critics."""
        for target, value in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
            target.lerp_(value, self.follow)

    def losses(self, batch: Batch, latent: Tensor, uniform: tuple[Tensor, Tensor]) -> Mapping[str, Tensor]:
        """Return the losses of critics, actor and temperature, (tasks,) each, a mean over the batch.

        A loss has a gradient in its own networks alone, and that of the critics in the latent variable, too.

        Args:
            batch: transitions.
            latent: (tasks, batch, latent), draws of the posterior.
            uniform: numbers (tasks, batch, 2 * count) for new actions before, and after the steps.
        """
        constant = latent.detach()
        temperature = self.log_temperature.exp().detach()
        before = torch.cat([batch.observations, constant], -1)
        with torch.no_grad():
            after = torch.cat([batch.after, constant], -1)
            following, density = self.actor.drawn(after, uniform[1])
            soft = self.targets(torch.cat([after, following], -1)).amin(0) - temperature * density
            aim = batch.rewards + self.discount * (1 - batch.ended) * soft
        predicted = self.critics(torch.cat([batch.observations, latent, batch.actions], -1))
        actions, density = self.actor.drawn(before, uniform[0])
        still = {name: value.detach() for name, value in self.critics.named_parameters()}
        worth = functional_call(self.critics, still, (torch.cat([before, actions], -1),)).amin(0)
        missing = torch.zeros_like(density) if self.entropy is None else (density + self.entropy).detach()
        return {
            "critics": ((predicted - aim) ** 2).sum(0).mean(1),
            "actor": (temperature * density - worth).mean(1),
            "temperature": -(self.log_temperature * missing).mean(1),
        }
