"""The learned policy gradient: an objective whose targets a network reads off what an agent did (Oh et al. 2020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.environments.environment import Environment
from metaloop.inner.autodiff import detached
from metaloop.learners.control.update_rules.agents import LinearAgent
from metaloop.learners.control.update_rules.streams import Streams, reset_backward
from metaloop.types import Params


@dataclass(frozen=True)
class Targets:
    """What the meta-network wants of each transition.

    Attributes:
        policy: (tasks, streams, steps), how much more likely the action should become.
        prediction: (tasks, streams, steps, predictions), logits of what the prediction should be.
    """

    policy: Tensor
    prediction: Tensor


class LearnedObjective(nn.Module):
    """The meta-network of LPG (Oh et al. 2020, section 3.1).

    An LSTM reads a stream backward and forgets where an episode ends. Of a transition it reads the reward, whether the episode
    ended, the discount, the probability of the action, and an embedding of the predictions before and after it, which does not
    depend on how many they are named or ordered in the environment. So it applies to any observations and actions.

    Args:
        predictions: entries of a prediction vector.
        hidden: units of the LSTM.
        embedding: hidden units of the embedding of a prediction, which is one number.
    """

    def __init__(self, predictions: int, hidden: int, embedding: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(predictions, embedding), nn.ReLU(), nn.Linear(embedding, 1))
        self.memory = nn.LSTMCell(6, hidden)
        self.policy = nn.Linear(hidden, 1)
        self.prediction = nn.Linear(hidden, predictions)

    def forward(self, streams: Streams, discount: float, logits: Tensor, predictions: Tensor) -> Targets:
        """Read streams backward.

        Args:
            streams: what the agents did.
            discount: how much a reward counts that comes a step later.
            logits: (tasks, streams, steps + 1, actions) of the agents.
            predictions: (tasks, streams, steps + 1, predictions), logits.
        """
        chosen = logits[..., :-1, :].softmax(-1).gather(-1, streams.actions[..., None])[..., 0]
        embedded = self.embed(predictions.softmax(-1))[..., 0]
        rewards = streams.rewards.to(chosen)
        parts = [rewards, streams.terminal.to(chosen), torch.full_like(chosen, discount), chosen]
        x = torch.stack([*parts, embedded[..., :-1], embedded[..., 1:]], -1)
        tasks, count, steps, _ = x.shape
        forgets = reset_backward(streams.terminal, streams.real)
        state = (x.new_zeros(tasks * count, self.memory.hidden_size), x.new_zeros(tasks * count, self.memory.hidden_size))
        read = []
        for step in reversed(range(steps)):
            kept = (~forgets[:, :, step]).to(x).view(-1, 1)
            state = self.memory(x[:, :, step].flatten(0, 1), (state[0] * kept, state[1] * kept))
            read.append(state[0])
        features = torch.stack(read[::-1], 1).view(tasks, count, steps, -1)
        return Targets(self.policy(features)[..., 0], self.prediction(features))


def agent_objective(
    streams: Streams, logits: Tensor, predictions: Tensor, targets: Targets, prediction_weight: float
) -> Tensor:
    """What an agent ascends (tasks,): the mean over transitions of ``target * log pi(a|s) - weight * KL(y || target y)``.

    Oh et al. 2020, equation 2, of which this is the potential, with the targets held constant.

    Args:
        streams: what the agents did.
        logits: (tasks, streams, steps + 1, actions).
        predictions: (tasks, streams, steps + 1, predictions), logits.
        targets: of the transitions.
        prediction_weight: weight of the divergence.
    """
    chosen = F.log_softmax(logits[..., :-1, :], -1).gather(-1, streams.actions[..., None])[..., 0]
    own = F.log_softmax(predictions[..., :-1, :], -1)
    divergence = (own.exp() * (own - F.log_softmax(targets.prediction, -1))).sum(-1)
    return streams.mean(targets.policy * chosen - prediction_weight * divergence)


@dataclass(frozen=True)
class LearnedUpdate:
    """An update of agents by a learned objective.

    Attributes:
        objective: the meta-network.
        agent: the agents.
        environment: of the tasks.
        rate: learning rate of the agents.
        discount: how much a reward counts that comes a step later.
        prediction_weight: weight of the divergence of predictions from their targets.
    """

    objective: LearnedObjective
    agent: LinearAgent
    environment: Environment
    rate: float
    discount: float
    prediction_weight: float

    def outputs(self, params: Params, streams: Streams) -> tuple[Tensor, Tensor]:
        """Logits and predictions at all observations of streams, (tasks, streams, steps + 1, ...)."""
        x = streams.observations
        flat = self.agent.outputs(params, self.environment, x.flatten(1, 2))
        logits, predictions = (value.view(*x.shape[:3], -1) for value in flat)
        return logits, predictions

    def __call__(self, params: Params, streams: Streams, *, learned: bool) -> tuple[Params, Targets]:
        """Take a gradient step on the objective; return the parameters after it, and the targets.

        With ``learned`` both are differentiable in the meta-network and in ``params``: the targets depend on the agent by what
        the meta-network reads, although the agent's own gradient holds them constant.
        """
        with torch.enable_grad():
            params = params if learned else detached(params)
            targets = self.objective(streams, self.discount, *self.outputs(params, streams))
            # Other tensors than those that the targets depend on; leaves in the first update of a window.
            held = {n: p.view_as(p) if p.requires_grad else p.detach().requires_grad_() for n, p in params.items()}
            value = agent_objective(streams, *self.outputs(held, streams), targets, self.prediction_weight).sum()
            slopes = torch.autograd.grad(value, list(held.values()), create_graph=learned)
            after = {n: params[n] + self.rate * slope for n, slope in zip(held, slopes, strict=True)}
        return (after if learned else detached(after)), targets
