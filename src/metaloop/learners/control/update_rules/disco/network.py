"""The meta-network of Disco103: what it reads of an agent's streams, and the targets that it answers (Oh et al. 2025)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.learners.control.update_rules.disco.weights import HIDDEN, META_HIDDEN, Layers
from metaloop.learners.control.update_rules.streams import Streams, reset_backward

Memory = tuple[Tensor, Tensor]  # hidden and cell of an LSTM


@dataclass(frozen=True)
class AgentOutputs:
    """What an agent answers at the observations of streams, (tasks, streams, steps + 1, ...) each.

    Attributes:
        logits: (..., actions), of the policy.
        y: (..., 600), logits of a prediction about the state.
        z: (..., actions, 600), logits of a prediction about each action.
        next_policy: (..., actions, actions), logits of the policy after each action.
        values: (..., actions, 601), logits of each action's value.
    """

    logits: Tensor
    y: Tensor
    z: Tensor
    next_policy: Tensor
    values: Tensor


@dataclass(frozen=True)
class Estimates:
    """Values of states and actions, (tasks, streams, steps + 1, ...), and advantages, (tasks, streams, steps).

    Attributes:
        state: values of states under the agent's policy.
        action: (..., actions), of the target agent.
        action_advantage: ``action`` minus the target agent's value of the state.
        normalized_action_advantage: the same, normalized.
        advantage: of the actions that were taken.
        normalized_advantage: the same, normalized.
    """

    state: Tensor
    action: Tensor
    action_advantage: Tensor
    normalized_action_advantage: Tensor
    advantage: Tensor
    normalized_advantage: Tensor


@dataclass(frozen=True)
class DiscoTargets:
    """Logits that the agent should have, (tasks, streams, steps, ...) each.

    Attributes:
        policy: (..., actions).
        y: (..., 600).
        z: (..., 600), for the action that was taken.
    """

    policy: Tensor
    y: Tensor
    z: Tensor


@dataclass(frozen=True)
class Seen:
    """All that the meta-network reads.

    Attributes:
        streams: what was played.
        agent: outputs of the agent.
        behaviour: (tasks, streams, steps + 1, actions), logits of the policy that played.
        target: outputs of the target agent, a moving average of the agent.
        estimates: values and advantages.
    """

    streams: Streams
    agent: AgentOutputs
    behaviour: Tensor
    target: AgentOutputs
    estimates: Estimates


def squeezed(x: Tensor) -> Tensor:
    """Return ``sign(x) log(1 + |x|)``."""
    return x.sign() * x.abs().log1p()


def taken(values: Tensor, actions: Tensor) -> Tensor:
    """Entries (tasks, streams, steps, ...) for the actions taken, of values (tasks, streams, steps, actions, ...)."""
    index = actions.view(*actions.shape, *[1] * (values.dim() - actions.dim()))
    return values.gather(3, index.expand(*actions.shape, 1, *values.shape[4:])).squeeze(3)


def _pair(x: Tensor) -> list[Tensor]:
    """A number before and after each step."""
    return [x[:, :, :-1], x[:, :, 1:]]


def read(layers: Layers, prefix: str, seen: Seen) -> tuple[Tensor, Tensor]:
    """Make one vector of each transition.

    Args:
        layers: the weights.
        prefix: which of the two sets of embeddings to use.
        seen: what there is to read.

    Returns:
        Vectors (tasks, streams, steps, 27), and embeddings of the actions (tasks, streams, steps, actions, 2).
    """
    actions, agent, target, estimates = seen.streams.actions, seen.agent, seen.target, seen.estimates
    policy = agent.logits.softmax(-1)
    policies = [each[:, :, :-1] for each in (policy, seen.behaviour.softmax(-1), target.logits.softmax(-1))]
    y = [layers.network(f"{prefix}mlp", each.y.softmax(-1))[..., 0] for each in (agent, target)]
    z = [layers.network(f"{prefix}mlp_1", each.z.softmax(-1))[..., 0] for each in (agent, target)]
    numbers = [taken(policies[0], actions), taken(policies[1], actions), squeezed(seen.streams.rewards)]
    numbers += [1 - seen.streams.terminal.to(policy), *_pair(squeezed(estimates.state))]
    numbers += [squeezed(estimates.advantage), estimates.normalized_advantage, taken(policies[2], actions)]
    numbers += [*_pair(y[0]), *_pair(y[1])]
    for each in z:
        numbers += [taken(each[:, :, :-1], actions), *_pair((each * policy).sum(-1)), *_pair(each.amax(-1))]
    by_action = [*policies, z[0][:, :, :-1], z[1][:, :, :-1]]
    by_action += [squeezed(estimates.action)[:, :, :-1], squeezed(estimates.action_advantage)[:, :, :-1]]
    by_action += [estimates.normalized_action_advantage[:, :, :-1], F.one_hot(actions, policy.shape[-1]).to(policy)]
    embedded = layers.over_actions(f"{prefix}sequential/conv1_d", torch.stack(by_action, -1))
    embedded = layers.over_actions(f"{prefix}sequential/conv1_d_1", embedded)
    return torch.cat([torch.stack(numbers, -1), embedded.mean(-2), taken(embedded, actions)], -1), embedded


class MetaNetwork:
    """The two LSTMs: one reads a stream backward, the other goes on from update to update of a lifetime.

    Args:
        layers: the weights.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def start(self, tasks: int) -> Memory:
        """Memory of lifetimes at their start, (tasks, 128) each."""
        like = self.layers.weights["linear/w"]
        return like.new_zeros(tasks, META_HIDDEN), like.new_zeros(tasks, META_HIDDEN)

    def __call__(self, seen: Seen, memory: Memory) -> tuple[DiscoTargets, Memory]:
        """Return the targets of streams, and the memory after them."""
        layers = self.layers
        x, by_action = read(layers, "", seen)
        features = self._backward(x, reset_backward(seen.streams.terminal, seen.streams.real))
        features = features * layers.linear("linear", memory[0])[:, None, None]
        y, z = layers.linear("linear_2", features), layers.linear("linear_3", features)
        spread = features[..., None, :].expand(*by_action.shape[:-1], -1)
        policy = layers.over_actions("sequential_1/conv1_d", torch.cat([spread, by_action], -1))
        targets = DiscoTargets(layers.linear("linear_4", policy)[..., 0], y, z)
        return targets, self._remembered(seen, layers.linear("linear_1", features), y, memory)

    def _backward(self, x: Tensor, forgets: Tensor) -> Tensor:
        """Read streams (tasks, streams, steps, 27) backward: (tasks, streams, steps, 256)."""
        hidden = cell = x.new_zeros(*x.shape[:2], HIDDEN)
        features = []
        for step in reversed(range(x.shape[2])):
            kept = (~forgets[:, :, step, None]).to(x)
            hidden, cell = self.layers.memory("lstm", x[:, :, step], (hidden * kept, cell * kept))
            features.append(hidden)
        return torch.stack(features[::-1], 2)

    def _remembered(self, seen: Seen, summary: Tensor, y: Tensor, memory: Memory) -> Memory:
        """Memory of lifetimes after an update: a step of the LSTM that reads the mean over transitions."""
        prefix = "~/meta_lstm/~unroll/"
        x, _ = read(self.layers, prefix, seen)
        embedded_y = self.layers.network(f"{prefix}mlp", y.softmax(-1))
        x = self.layers.linear(f"{prefix}mlp_2/~/linear_0", torch.cat([x, summary, embedded_y], -1))
        real = seen.streams.real[..., None].to(x)
        mean = (x * real).sum((1, 2)) / real.sum((1, 2))
        return self.layers.memory(f"{prefix}lstm", mean, memory)
