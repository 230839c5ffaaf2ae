"""A policy with a memory: a network that reads observations, and the action, the reward and the end of the step before."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.distributions import distribution_of
from metaloop.control.memories import TrialMemory
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.control.rollouts import Rollouts
from metaloop.errors import UserError
from metaloop.problems.control import Actions


class ActorHeads(nn.Module):
    """Linear heads on the features of a policy: its actions, and for a critic the value.

    Args:
        features: width of the features.
        actions: actions of the environments.
        critic: whether there is a value.
        deviation: deviation of continuous actions at the start, above 0; it does not depend on the features.
    """

    def __init__(self, features: int, actions: Actions, critic: bool, deviation: float = 1.0) -> None:
        super().__init__()
        if not deviation > 0:
            raise UserError(f"algorithm.deviation={deviation}: above 0")
        self.preferences = nn.Linear(features, actions.count)
        self.value = nn.Linear(features, 1) if critic else None
        # The first actions are nearly uniform, the first values nearly 0.
        for head in filter(None, (self.preferences, self.value)):
            nn.init.orthogonal_(head.weight, 0.01)
            nn.init.zeros_(head.bias)
        start = torch.full((actions.count,), float(deviation)).log()
        self.log_deviation = nn.Parameter(start) if actions.continuous else None

    def outputs(self, features: Tensor) -> Tensor:
        """Outputs (..., outputs) that an action distribution reads; of discrete actions the log-probabilities."""
        answers: Tensor = self.preferences(features)
        if self.log_deviation is None:
            return F.log_softmax(answers, -1)
        return torch.cat([answers, self.log_deviation.expand_as(answers)], -1)

    def values(self, features: Tensor) -> Tensor | None:
        """Outputs of the value head (...); None without one."""
        return None if self.value is None else self.value(features)[..., 0]


class ActorCritic(ActorHeads):
    """A memory, and :class:`ActorHeads` on what it returns.

    Args:
        features: width of an embedded observation.
        actions: actions of the environments.
        memory: builds the memory from the width of its ``inputs``.
        critic: whether there is a value.
        deviation: see :class:`ActorHeads`.
        whole_transitions: whether the memory reads the observation before a step, too.
    """

    def __init__(
        self,
        features: int,
        actions: Actions,
        memory: Callable[..., TrialMemory],
        critic: bool = True,
        deviation: float = 1.0,
        whole_transitions: bool = False,
    ) -> None:
        made = memory(inputs=features * (1 + whole_transitions) + width_of_step(actions))
        super().__init__(made.features, actions, critic, deviation)
        self.memory = made
        self.features = features
        self.whole_transitions = whole_transitions


def width_of_step(actions: Actions) -> int:
    """Width of what :func:`read_step` returns."""
    return 2 * actions.count + 2


def read_step(actions: Actions, taken: Tensor, rewards: Tensor, done: Tensor) -> Tensor:
    """What a memory reads of a step, (..., 2 * count + 2): its action, the product of action and reward, the reward, the end.

    The product saves the memory from having to learn to multiply.
    """
    action = taken if actions.continuous else F.one_hot(taken, actions.count)
    action, reward = action.to(rewards.dtype), rewards[..., None]
    return torch.cat([action, action * reward, reward, done.to(rewards.dtype)[..., None]], -1)


@dataclass
class Recall:
    """What a policy with a memory keeps of a trial.

    Attributes:
        state: state of the memory.
        noise: random numbers of each step.
        log_probabilities: (tasks,) of the actions, one for each step.
        before: (tasks, 2 * count + 2): what the next step reads of the step before; 0 at the start.
        seen: (tasks, features), the embedded observation of the step before; 0 at the start, None if it is not read.
    """

    state: Any
    noise: TrialNoise
    log_probabilities: list[Tensor]
    before: Tensor
    seen: Tensor | None


class StochasticPolicy(ControlPolicy):
    """A policy that draws actions from a distribution and notes their log-probabilities, so that it can be improved.

    Args:
        embedding: network of observations, without a head.
        actions: actions that the networks were made for.
    """

    def __init__(self, embedding: nn.Module, actions: Actions) -> None:
        self.embedding = embedding
        self.actions = actions
        self.distribution = distribution_of(actions)

    @abstractmethod
    def reread(self, rollouts: Rollouts) -> tuple[Tensor, Tensor | None]:
        """Read whole trials at once, which gives the numbers of acting step by step, with a graph.

        Returns:
            Outputs (steps, tasks, outputs), of discrete actions the log-probabilities, and outputs of the value head (steps,
            tasks), None without one, before each step.
        """

    def embedded(self, observations: Tensor) -> Tensor:
        """Embed observations (steps, tasks, *input)."""
        steps, tasks = observations.shape[:2]
        embedded: Tensor = self.embedding(observations.flatten(0, 1))
        return embedded.view(steps, tasks, -1)

    def drawn(self, outputs: Tensor, noise: TrialNoise, log_probabilities: list[Tensor]) -> Tensor:
        """Draw the actions of a step and note their log-probabilities."""
        actions = self.distribution.draw(outputs, noise.next())
        log_probabilities.append(self.distribution.log_probability(outputs, actions))
        return actions


class MemoryPolicy(StochasticPolicy):
    """A network of observations and an :class:`ActorCritic`, whose memory is not reset between the episodes of a trial.

    The memory reads what the policy of RL² reads (Duan et al. 2016, section 2.2): the embedded observation, the last action
    (one-hot, or its numbers), the last reward, and whether an episode has just ended; and the product of action and reward. If
    the network says ``whole_transitions``, the memory also reads the last observation. Attention then finds what an action did
    in a state by one comparison, and need not learn first to look a step back.

    Args:
        embedding: network of observations, without a head.
        network: memory and heads.
        actions: actions that the network was made for.
    """

    def __init__(self, embedding: nn.Module, network: ActorCritic, actions: Actions) -> None:
        super().__init__(embedding, actions)
        self.network = network

    def start(self, trial: TrialStart) -> Recall:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments have other actions than those that the policy was made for.
        """
        trial.check_actions(self.actions)
        like, tasks = self.network.preferences.weight, len(trial.numbers)
        before = like.new_zeros(tasks, width_of_step(self.actions))
        noise = TrialNoise(trial.numbers, self.distribution.words, "policy")
        seen = like.new_zeros(tasks, self.network.features) if self.network.whole_transitions else None
        return Recall(self.network.memory.start(tasks, like), noise, [], before, seen)

    def act(self, memory: Recall, observation: Tensor) -> Tensor:
        """See :meth:`ControlPolicy.act`; actions are drawn from the policy's distribution."""
        parts = [self.embedding(observation), memory.before]
        if memory.seen is not None:
            parts.append(memory.seen)
            memory.seen = parts[0]
        features, memory.state = self.network.memory.step(torch.cat(parts, -1), memory.state)
        return self.drawn(self.network.outputs(features), memory.noise, memory.log_probabilities)

    def learn(self, memory: Recall, transition: Transition) -> Recall:
        """See :meth:`ControlPolicy.learn`; the transition is read with the next observation."""
        memory.before = read_step(self.actions, transition.actions, transition.reward, transition.done)
        return memory

    def reread(self, rollouts: Rollouts) -> tuple[Tensor, Tensor | None]:
        """See :meth:`StochasticPolicy.reread`."""
        seen = self.embedded(rollouts.observations)
        parts = [seen, _of_step_before(read_step(self.actions, rollouts.actions, rollouts.rewards, rollouts.done))]
        if self.network.whole_transitions:
            parts.append(_of_step_before(seen))
        features = self.network.memory.sequence(torch.cat(parts, -1))
        return self.network.outputs(features), self.network.values(features)


def _of_step_before(values: Tensor) -> Tensor:
    """Values (steps, ...) of the step before each; 0 before the first."""
    return torch.cat([torch.zeros_like(values[:1]), values[:-1]])
