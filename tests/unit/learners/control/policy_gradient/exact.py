"""Small decision processes whose expected returns are exact, and all their episodes with probabilities: oracles of tests."""

from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.control.distributions import Categorical
from metaloop.inner.problem import MODEL, InnerProblem
from metaloop.inner.rules.rule import GradientDescent
from metaloop.learners.control.policy_gradient.played import PlayedEpisodes
from metaloop.learners.control.policy_gradient.policy_task import PolicyTask
from metaloop.learners.control.policy_gradient.surrogates import InnerSurrogate
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.models.mlp import MLP
from metaloop.types import Params

STATES, ACTIONS, RATE = 3, 2, 0.7


@dataclass(frozen=True)
class Process:
    """A decision process that begins in state 0: transitions (states, actions, states), rewards (states, actions)."""

    transitions: Tensor
    rewards: Tensor
    horizon: int

    def values(self, policy: Tensor) -> list[Tensor]:
        """Exact values (states, actions) of actions at each step, for a policy (states, actions) of probabilities."""
        values = [self.rewards]
        for _ in range(self.horizon - 1):
            values.insert(0, self.rewards + self.transitions @ (policy * values[0]).sum(1))
        return values

    def expected_return(self, policy: Tensor) -> Tensor:
        """Exact expected return of an episode."""
        return (policy[0] * self.values(policy)[0][0]).sum()


def processes(count: int, horizon: int) -> list[Process]:
    random = torch.Generator().manual_seed(3)
    drawn = partial(torch.rand, generator=random, dtype=torch.float64)
    chances = [drawn(STATES, ACTIONS, STATES) ** 3 for _ in range(count)]
    return [Process(c / c.sum(-1, keepdim=True), 4 * drawn(STATES, ACTIONS), horizon) for c in chances]


def network() -> nn.Module:
    torch.manual_seed(1)
    return MLP((STATES,), ACTIONS, [4], activation="tanh").double()


def policy_of(model: nn.Module, params: Params) -> Tensor:
    """Probabilities (states, actions)."""
    outputs: Tensor = functional_call(model, dict(params), (torch.eye(STATES, dtype=torch.float64),))
    return outputs.softmax(-1)


def problem_of(model: nn.Module, surrogate: InnerSurrogate, steps: int) -> InnerProblem:
    params = {name: value.detach() for name, value in model.named_parameters()}
    task = PolicyTask(FunctionalModel(model), tuple(params), Categorical(), surrogate)
    return InnerProblem(task, GradientDescent(params, RATE), (0.0,) * steps + (1.0,), steps)


def all_episodes(process: Process, outputs: Tensor, baseline: Tensor | None = None) -> PlayedEpisodes:
    """Every episode of a process once. Advantages are times their probability, so that a mean over episodes is an expectation.

    Args:
        process: the process.
        outputs: (states, actions) of the policy's network.
        baseline: (steps, states), subtracted from the reward that is left.
    """
    policy, steps = outputs.softmax(-1), process.horizon
    later = list(product(range(STATES), range(ACTIONS)))
    episodes = [[(0, action), *rest] for action in range(ACTIONS) for rest in product(later, repeat=steps - 1)]
    states, actions = torch.tensor(episodes).unbind(-1)
    chance = policy[states, actions].prod(1)
    for step in range(steps - 1):
        chance = chance * process.transitions[states[:, step], actions[:, step], states[:, step + 1]]
    left = process.rewards[states, actions].flip(1).cumsum(1).flip(1)
    if baseline is not None:
        left = left - baseline[torch.arange(steps), states]
    weighted = left * chance[:, None] * len(episodes)
    log_probabilities = policy.log()[states, actions]
    return PlayedEpisodes(
        x=torch.eye(STATES, dtype=torch.float64)[states.flatten()],
        y=actions.flatten(),
        mask=torch.ones(states.numel(), dtype=torch.bool),
        advantages=weighted.flatten().detach(),
        outputs=outputs[states.flatten()].detach(),
        log_probabilities=log_probabilities.flatten().detach(),
        returns=left[:, 0],
        episodes=len(episodes),
    )


def meta_of(model: nn.Module) -> dict[str, Tensor]:
    return {MODEL + name: value.detach() for name, value in model.named_parameters()}


def adapted_exactly(model: nn.Module, start: Params, process: Process, steps: int) -> Params:
    """Exact policy gradient steps, differentiable in the start."""
    params = dict(start)
    for _ in range(steps):
        value = process.expected_return(policy_of(model, params)) / process.horizon
        gradients = torch.autograd.grad(value, list(params.values()), create_graph=True)
        params = {name: p + RATE * g for (name, p), g in zip(params.items(), gradients, strict=True)}
    return params


def adapted_return(model: nn.Module, start: Params, tasks: list[Process], steps: int) -> Tensor:
    """Mean over tasks of the exact expected return of a step after exact adaptation."""
    ends = [process.expected_return(policy_of(model, adapted_exactly(model, start, process, steps))) for process in tasks]
    return torch.stack(ends).mean() / tasks[0].horizon
