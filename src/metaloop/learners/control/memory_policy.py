"""A policy with a memory: a network that reads observations, and the action, the reward and the end of the step before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.control.noise import TrialNoise, chosen
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.control.rollouts import Rollouts
from metaloop.problems.control import Actions


class ActorCritic(nn.Module):
    """A memory, and linear heads on what it returns: preferences for actions, and for a critic the value.

    Args:
        features: width of an embedded observation.
        actions: number of discrete actions.
        memory: builds the memory from the width of its ``inputs``.
        critic: whether there is a value.
    """

    def __init__(self, features: int, actions: int, memory: Callable[..., TrialMemory], critic: bool = True) -> None:
        super().__init__()
        self.memory = memory(inputs=features + 2 * actions + 2)
        self.preferences = nn.Linear(self.memory.features, actions)
        self.value = nn.Linear(self.memory.features, 1) if critic else None
        for head in filter(
            None, (self.preferences, self.value)
        ):  # the first actions are nearly uniform, the first values nearly 0
            nn.init.orthogonal_(head.weight, 0.01)
            nn.init.zeros_(head.bias)


@dataclass
class Recall:
    """What a :class:`MemoryPolicy` keeps of a trial.

    Attributes:
        state: state of the memory.
        before: (tasks, 2 * actions + 2): what the next step reads of the step before; 0 at the start.
        noise: random numbers, one for each step.
        log_probabilities: (tasks,) of the actions, one for each step.
    """

    state: Any
    before: Tensor
    noise: TrialNoise
    log_probabilities: list[Tensor]


class MemoryPolicy(ControlPolicy):
    """A network of observations and an :class:`ActorCritic`, whose memory is not reset between the episodes of a trial.

    The memory reads what the policy of RL² reads (Duan et al. 2016, section 2.2): the embedded observation, the last action
    (one-hot), the last reward, and whether an episode has just ended; and the product of action and reward, which saves it
    from having to learn to multiply.

    Args:
        embedding: network of observations, without a head.
        network: memory and heads.
        actions: actions that the network was made for.
    """

    def __init__(self, embedding: nn.Module, network: ActorCritic, actions: Actions) -> None:
        self.embedding = embedding
        self.network = network
        self.actions = actions

    def start(self, trial: TrialStart) -> Recall:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments have other actions than those that the policy was made for.
        """
        trial.check_actions(self.actions)
        like, tasks = self.network.preferences.weight, len(trial.numbers)
        before = like.new_zeros(tasks, 2 * self.actions.count + 2)
        return Recall(self.network.memory.start(tasks, like), before, TrialNoise(trial.numbers, 1, "policy"), [])

    def act(self, memory: Recall, observation: Tensor) -> Tensor:
        """See :meth:`ControlPolicy.act`; actions are drawn from the policy's distribution."""
        x = torch.cat([self.embedding(observation), memory.before], -1)
        features, memory.state = self.network.memory.step(x, memory.state)
        log_probabilities = F.log_softmax(self.network.preferences(features), -1)
        actions = chosen(log_probabilities.exp(), memory.noise.next()[:, 0])
        memory.log_probabilities.append(log_probabilities.gather(-1, actions[:, None])[:, 0])
        return actions

    def learn(self, memory: Recall, transition: Transition) -> Recall:
        """See :meth:`ControlPolicy.learn`; the transition is read with the next observation."""
        memory.before = self._read(transition.actions, transition.reward, transition.done)
        return memory

    def reread(self, rollouts: Rollouts) -> tuple[Tensor, Tensor | None]:
        """Read whole trials at once, which gives the numbers of acting step by step, with a graph.

        Returns:
            Log-probabilities of all actions (steps, tasks, actions) and outputs of the value head (steps, tasks), None
            without one, before each step.
        """
        steps, tasks = rollouts.rewards.shape
        before = self._read(rollouts.actions, rollouts.rewards, rollouts.done)
        before = torch.cat([torch.zeros_like(before[:1]), before[:-1]])
        seen = self.embedding(rollouts.observations.flatten(0, 1)).view(steps, tasks, -1)
        features = self.network.memory.sequence(torch.cat([seen, before], -1))
        values = None if self.network.value is None else self.network.value(features)[..., 0]
        return F.log_softmax(self.network.preferences(features), -1), values

    def _read(self, actions: Tensor, rewards: Tensor, done: Tensor) -> Tensor:
        """What the next step reads of a step, (..., 2 * actions + 2)."""
        action, reward = F.one_hot(actions, self.actions.count).to(rewards.dtype), rewards[..., None]
        return torch.cat([action, action * reward, reward, done.to(rewards.dtype)[..., None]], -1)
