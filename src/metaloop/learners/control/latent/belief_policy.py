"""A policy that acts by a posterior over the task, and the networks that infer it (Zintgraf et al. 2020)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import Transition, TrialStart
from metaloop.control.rollouts import Rollouts
from metaloop.control.watching import Belief
from metaloop.learners.control.latent.decoder import TaskDecoder
from metaloop.learners.control.latent.posterior import Posterior
from metaloop.learners.control.memory_policy import ActorHeads, StochasticPolicy, read_step, width_of_step
from metaloop.models.mlp import MLP
from metaloop.problems.control import Actions


class TrialEncoder(nn.Module):
    """A memory of actions, rewards and next observations, from which the posterior over the task is read.

    It has an embedding of observations of its own, so that nothing that the policy learns reaches it.

    Args:
        embedding: network of observations, which is copied.
        features: width of an embedded observation.
        actions: actions of the environments.
        memory: builds the memory from the width of its ``inputs``.
        latent: entries of the latent variable.
    """

    def __init__(
        self, embedding: nn.Module, features: int, actions: Actions, memory: Callable[..., TrialMemory], latent: int
    ) -> None:
        super().__init__()
        self.embedding = copy.deepcopy(embedding)
        self.actions = actions
        self.memory = memory(inputs=features + width_of_step(actions))
        self.moments = nn.Linear(self.memory.features, 2 * latent)

    def start(self, tasks: int) -> tuple[Any, Tensor]:
        """Return the memory's state and the moments (tasks, 2 * latent) before the first step."""
        like = self.moments.weight
        return self.memory.start(tasks, like), self.moments(like.new_zeros(tasks, self.memory.features))

    def step(self, state: Any, transition: Transition) -> tuple[Any, Tensor]:
        """Read a step; return the new state and the moments (tasks, 2 * latent)."""
        taken = read_step(self.actions, transition.actions, transition.reward, transition.done)
        features, state = self.memory.step(torch.cat([self.embedding(transition.after), taken], -1), state)
        return state, self.moments(features)

    def posteriors(self, rollouts: Rollouts) -> Posterior:
        """Return the posteriors (steps + 1, tasks, latent) before the first and after each step, with a graph."""
        taken = read_step(self.actions, rollouts.actions, rollouts.rewards, rollouts.done)
        features = self.memory.sequence(torch.cat([self.embedded(rollouts.after), taken], -1))
        return Posterior.of(self.moments(torch.cat([torch.zeros_like(features[:1]), features])))

    def embedded(self, observations: Tensor) -> Tensor:
        """Embed observations (steps, tasks, *input)."""
        embedded: Tensor = self.embedding(observations.flatten(0, 1))
        return embedded.view(*observations.shape[:2], -1)


class BeliefNetwork(nn.Module):
    """The networks of VariBAD beside the policy's embedding of observations.

    Args:
        encoder: infers the posterior.
        decoder: predicts rewards, and perhaps transitions, from the latent variable; used in training alone.
        features: width of an embedded observation.
        actions: actions of the environments.
        latent: entries of the latent variable.
        hidden: widths of the policy's hidden layers, with tanh.
        deviation: deviation of continuous actions at the start.
    """

    def __init__(
        self,
        encoder: TrialEncoder,
        decoder: TaskDecoder,
        features: int,
        actions: Actions,
        latent: int,
        hidden: Sequence[int],
        deviation: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.trunk = MLP((features + 2 * latent,), None, hidden, activation="tanh")
        self.heads = ActorHeads(hidden[-1], actions, critic=True, deviation=deviation)


@dataclass
class BeliefRecall:
    """What a :class:`BeliefPolicy` keeps of a trial.

    Attributes:
        state: state of the encoder's memory.
        moments: (tasks, 2 * latent) of the posterior, before the first and after each step.
        noise: random numbers of each step.
        log_probabilities: (tasks,) of the actions, one for each step.
    """

    state: Any
    moments: list[Tensor]
    noise: TrialNoise
    log_probabilities: list[Tensor]


class BeliefPolicy(StochasticPolicy):
    """A policy of the observation and of the moments of the posterior, which goes on from episode to episode.

    Args:
        embedding: the policy's network of observations, without a head.
        network: the other networks.
        actions: actions that the networks were made for.
    """

    def __init__(self, embedding: nn.Module, network: BeliefNetwork, actions: Actions) -> None:
        super().__init__(embedding, actions)
        self.network = network

    def start(self, trial: TrialStart) -> BeliefRecall:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments have other actions than those that the policy was made for.
        """
        trial.check_actions(self.actions)
        state, moments = self.network.encoder.start(len(trial.numbers))
        return BeliefRecall(state, [moments], TrialNoise(trial.numbers, self.distribution.words, "policy"), [])

    def act(self, memory: BeliefRecall, observation: Tensor) -> Tensor:
        """See :meth:`ControlPolicy.act`; actions are drawn from the policy's distribution."""
        features = self.network.trunk(torch.cat([self.embedding(observation), memory.moments[-1]], -1))
        return self.drawn(self.network.heads.outputs(features), memory.noise, memory.log_probabilities)

    def learn(self, memory: BeliefRecall, transition: Transition) -> BeliefRecall:
        """See :meth:`ControlPolicy.learn`; the encoder reads the transition."""
        memory.state, moments = self.network.encoder.step(memory.state, transition)
        memory.moments.append(moments)
        return memory

    def belief(self, memory: BeliefRecall) -> Belief:
        """See :meth:`ControlPolicy.belief`; the posterior over the latent variable."""
        return Posterior.of(memory.moments[-1]).belief

    def reread(self, rollouts: Rollouts) -> tuple[Tensor, Tensor | None]:
        """See :meth:`StochasticPolicy.reread`; the posterior is that of acting, a constant, so the encoder has no gradient."""
        moments = torch.stack(rollouts.memory.moments[:-1]).detach()
        x = torch.cat([self.embedded(rollouts.observations), moments], -1)
        features = self.network.trunk(x.flatten(0, 1)).view(*x.shape[:2], -1)
        return self.network.heads.outputs(features), self.network.heads.values(features)
