"""The update of agents by Disco103, with the constants of the authors' code (github.com/google-deepmind/disco_rl)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.control.environments.environment import Environment
from metaloop.inner.autodiff import detached
from metaloop.learners.control.update_rules.disco.agent import DiscoAgent
from metaloop.learners.control.update_rules.disco.network import (
    AgentOutputs,
    DiscoTargets,
    Estimates,
    Memory,
    MetaNetwork,
    Seen,
    taken,
)
from metaloop.learners.control.update_rules.disco.values import (
    DISCOUNT,
    TRACE,
    MovingAverage,
    retrace,
    two_hot,
    value_of,
)
from metaloop.learners.control.update_rules.streams import Streams
from metaloop.types import Params

_VALUE_WEIGHT = 0.2  # of the values' loss; the other four weigh 1
_KEPT = 0.9  # of the target agent in an update
_BETAS, _SMALLEST, _LARGEST = (0.9, 0.999), 1e-8, 1.0  # of Adam; and the largest step, in units of the rate


@dataclass(frozen=True)
class Lifetime:
    """An agent of each task with all that goes on from update to update, (tasks, ...) each.

    Attributes:
        params: of the agent.
        target: of the target agent, a moving average.
        memory: of the meta-network.
        advantages: moving averages of advantages.
        first: Adam's mean gradients.
        second: Adam's mean squared gradients.
        updates: number of updates so far.
    """

    params: Params
    target: Params
    memory: Memory
    advantages: MovingAverage
    first: Params
    second: Params
    updates: int


@dataclass(frozen=True)
class DiscoUpdate:
    """An update of agents.

    Attributes:
        network: the meta-network.
        agent: the agents.
        environment: of the tasks.
        rate: learning rate.
    """

    network: MetaNetwork
    agent: DiscoAgent
    environment: Environment
    rate: float

    def start(self, numbers: Tensor) -> Lifetime:
        """Lifetimes at their start."""
        params = self.agent.start(self.environment, numbers)
        zeros = {name: torch.zeros_like(value) for name, value in params.items()}
        none = torch.zeros(len(numbers), device=numbers.device)
        return Lifetime(params, params, self.network.start(len(numbers)), MovingAverage(none, none, 1.0), zeros, zeros, 0)

    def __call__(self, life: Lifetime, streams: Streams) -> Lifetime:
        """Update the agents by streams that they have just played."""
        with torch.no_grad():
            outputs, target = (self._outputs(params, streams) for params in (life.params, life.target))
            estimates, wanted, advantages = estimated(streams, outputs, outputs.logits, target, life.advantages)
            seen = Seen(streams, outputs, outputs.logits, target, estimates)
            targets, memory = self.network(seen, life.memory)
        slopes = self._slopes(life.params, streams, targets, wanted)
        params, first, second = self._stepped(life, slopes)
        target_params = {name: _KEPT * old + (1 - _KEPT) * life.params[name] for name, old in life.target.items()}
        return Lifetime(params, target_params, memory, advantages, first, second, life.updates + 1)

    def _outputs(self, params: Params, streams: Streams) -> AgentOutputs:
        return self.agent.outputs(params, self.environment, streams.observations)

    def _slopes(self, params: Params, streams: Streams, targets: DiscoTargets, wanted: Tensor) -> Params:
        """Gradients of the loss of each task."""
        with torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            loss = streams.mean(losses(streams, self._outputs(leaves, streams), targets, wanted)).sum()
            slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True, allow_unused=True)
        return dict(zip(leaves, slopes, strict=True))

    def _stepped(self, life: Lifetime, slopes: Params) -> tuple[Params, Params, Params]:
        """Take a step of Adam, no entry of which is longer than the rate; return parameters and Adam's moments."""
        count = life.updates + 1
        first = {name: _BETAS[0] * life.first[name] + (1 - _BETAS[0]) * slope for name, slope in slopes.items()}
        second = {name: _BETAS[1] * life.second[name] + (1 - _BETAS[1]) * slope**2 for name, slope in slopes.items()}
        params = {}
        for name, value in life.params.items():
            size = (second[name] / (1 - _BETAS[1] ** count)).sqrt() + _SMALLEST
            step = first[name] / (1 - _BETAS[0] ** count) / size
            params[name] = value - self.rate * step.clamp(-_LARGEST, _LARGEST)
        return detached(params), detached(first), detached(second)


def estimated(
    streams: Streams, agent: AgentOutputs, behaviour: Tensor, target: AgentOutputs, averages: MovingAverage
) -> tuple[Estimates, Tensor, MovingAverage]:
    """Estimate values and advantages, with the target agent's values and the agent's policy.

    Returns:
        The estimates; targets (tasks, streams, steps) of the values of the actions that were taken; the new averages.
    """
    policy, actions = agent.logits.softmax(-1), streams.actions
    state = (policy * value_of(agent.values)).sum(-1)
    action = value_of(target.values)
    target_state = (policy * action).sum(-1)
    weight = (_log_chosen(agent.logits, actions) - _log_chosen(behaviour, actions)).exp().clamp(max=1)
    discounts = DISCOUNT * (1 - streams.terminal.to(policy))
    wanted = retrace(streams.rewards, discounts, target_state, taken(action[:, :, :-1], actions), TRACE * weight)
    advantage, by_action = wanted - target_state[:, :, :-1], action - target_state[..., None]
    averages = averages.updated(streams.mean(advantage), streams.mean(advantage**2))
    normal = averages.normalized(advantage), averages.normalized(by_action)
    return Estimates(state, action, by_action, normal[1], advantage, normal[0]), wanted, averages


def losses(streams: Streams, agent: AgentOutputs, targets: DiscoTargets, wanted: Tensor) -> Tensor:
    """The loss of each transition (tasks, streams, steps): divergences from targets, and that of the values."""
    actions = streams.actions
    z, next_policy, values = (taken(each[:, :, :-1], actions) for each in (agent.z, agent.next_policy, agent.values))
    after = _divergence(agent.logits[:, :, 1:].detach(), next_policy) * ~streams.terminal
    likelihood = (two_hot(wanted) * F.log_softmax(values, -1)).sum(-1)
    own = _divergence(targets.policy, agent.logits[:, :, :-1]) + _divergence(targets.y, agent.y[:, :, :-1])
    return own + _divergence(targets.z, z) + after - _VALUE_WEIGHT * likelihood


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """Kullback-Leibler divergence (...) of the second distribution from the first, from logits (..., n)."""
    log_first = F.log_softmax(first, -1)
    return (log_first.exp() * (log_first - F.log_softmax(second, -1))).sum(-1)


def _log_chosen(logits: Tensor, actions: Tensor) -> Tensor:
    return taken(F.log_softmax(logits[:, :, :-1], -1), actions)
