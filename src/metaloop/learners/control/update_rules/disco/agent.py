"""Agents of Disco103: a torso, and heads for a policy, predictions and values (Oh et al. 2025)."""

import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment
from metaloop.learners.control.update_rules.agents import FreshEmbedding, drawn_weights
from metaloop.learners.control.update_rules.disco.network import AgentOutputs
from metaloop.learners.control.update_rules.disco.values import BINS
from metaloop.learners.control.update_rules.disco.weights import PREDICTIONS
from metaloop.types import Params

_SMALL = 0.01  # deviation of the weights of the first heads
_STREAMS = 1 << 40  # makes the random numbers of the heads others than those of the torso


class DiscoAgent:
    """The agent of the authors' experiments with a torso of one's own.

    Linear heads answer the policy and y. An LSTM that starts at the features takes one step for each action; networks of one
    hidden layer read z, the next policy and the categorical value of each action off it (as in Muesli, Hessel et al. 2021).

    Args:
        embedding: the torso.
        actions: number of actions.
        units: of the LSTM.
        hidden: units of the networks that read it.
    """

    def __init__(self, embedding: FreshEmbedding, actions: int, units: int, hidden: int) -> None:
        self.embedding = embedding
        self.actions = actions
        self.units = units
        self.hidden = hidden
        self.heads = {"z": PREDICTIONS, "next_policy": actions, "values": BINS}

    def start(self, environment: Environment, numbers: Tensor) -> dict[str, Tensor]:
        """Parameters of lifetimes at their start, (tasks, ...) each. Biases are 0, weights normal.

        Raises:
            UserError: the agent cannot act in these environments.
        """
        width = self.embedding.width(environment)
        shapes = {"policy": (width, self.actions), "y": (width, PREDICTIONS), "root": (width, self.units)}
        shapes["memory"] = (self.actions + self.units, 4 * self.units)
        for name, outputs in self.heads.items():
            shapes |= {f"{name}.0": (self.units, self.hidden), f"{name}.1": (self.hidden, outputs)}
        scale = {name: _SMALL if name in ("policy", "y") else shape[0] ** -0.5 for name, shape in shapes.items()}
        weights = drawn_weights(numbers + _STREAMS, dict(shapes), scale)
        biases = {f"{name}.bias": value.new_zeros(len(numbers), 1, value.shape[-1]) for name, value in weights.items()}
        return self.embedding.start(numbers) | {f"{name}.weight": value for name, value in weights.items()} | biases

    def logits(self, params: Params, environment: Environment, observations: Tensor) -> Tensor:
        """Logits of the policy (tasks, examples, actions) at observations (tasks, examples, *input)."""
        return _linear(params, "policy", self.embedding(params, environment, observations))

    def outputs(self, params: Params, environment: Environment, observations: Tensor) -> AgentOutputs:
        """All outputs at the observations of streams (tasks, streams, steps, *input)."""
        shape = observations.shape[:3]
        features = self.embedding(params, environment, observations.flatten(1, 2))
        after = self._after_each_action(params, _linear(params, "root", features))
        heads = {name: _linear(params, f"{name}.1", _linear(params, f"{name}.0", after).relu()) for name in self.heads}
        by_action = {name: value.view(*shape, self.actions, -1) for name, value in heads.items()}
        logits, y = (_linear(params, name, features).view(*shape, -1) for name in ("policy", "y"))
        return AgentOutputs(logits, y, **by_action)

    def _after_each_action(self, params: Params, cell: Tensor) -> Tensor:
        """A step of the LSTM for each action: (tasks, examples * actions, units), from its cells (tasks, examples, units)."""
        tasks, examples, _ = cell.shape
        actions = torch.eye(self.actions, device=cell.device, dtype=cell.dtype).expand(tasks, examples, -1, -1)
        cell = cell[:, :, None].expand(-1, -1, self.actions, -1)
        x = torch.cat([actions, cell.tanh()], -1).flatten(1, 2)
        into, new, forget, out = _linear(params, "memory", x).chunk(4, -1)
        cell = (forget + 1).sigmoid() * cell.flatten(1, 2) + into.sigmoid() * new.tanh()
        return out.sigmoid() * cell.tanh()


def _linear(params: Params, name: str, x: Tensor) -> Tensor:
    """An affine map of (tasks, examples, inputs), with weights of each task."""
    return torch.baddbmm(params[f"{name}.bias"], x, params[f"{name}.weight"])
