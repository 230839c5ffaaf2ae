"""Policies of stacked tasks, each with parameters of its own, and the numbers of the episodes that they play."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metaloop.control.distributions import ActionDistribution
from metaloop.control.environments.environment import World
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.control.rollouts import Rollouts, play
from metaloop.errors import UserError
from metaloop.inner.selection.attached import Part, attach
from metaloop.models.adapter import as_model
from metaloop.problems.control import Actions

_EPISODE, _PHASE = 40, 52  # first bits of an episode's and a phase's number above those of a task's
MOST_EPISODES, QUERIES = 1 << (_PHASE - _EPISODE), (1 << 10) - 1  # phases are numbers of inner steps, and that of the queries


class Deviation(Part):
    """Logarithms of the deviations of continuous actions, which do not depend on the observation, beside the head's means.

    Args:
        count: entries of an action.
        start: deviation at the start, above 0.
    """

    def __init__(self, count: int, start: float) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.full((count,), start).log())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return (examples, 2 * count): the means ``y`` and the logarithms."""
        return torch.cat([y, self.logarithm.expand(*y.shape[:-1], -1)], -1)


def made_policy(model: nn.Module, actions: Actions, head_scale: float, deviation: float) -> None:
    """Make a network the policy's: its head starts small, and answers deviations of continuous actions, too.

    Args:
        model: a network with a head, which answers one number for each action or entry of an action.
        actions: the actions.
        head_scale: factor of the head's parameters, so that the first actions hardly depend on the observation.
        deviation: deviation of continuous actions at the start.

    Raises:
        UserError: a number is not above 0, or the network has no head.
    """
    for key, value in {"head_scale": head_scale, "deviation": deviation}.items():
        if not value > 0:
            raise UserError(f"algorithm.{key}={value}: above 0")
    head = as_model(model).head
    if head is None:
        raise UserError("model: the network has no head, which would answer the actions; take model=tanh_mlp")
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(head_scale)
    if actions.continuous:
        attach(head, "deviation", Deviation(actions.count, deviation))


class StackedPolicy(ControlPolicy):
    """The policies of stacked tasks, which act in a number of episodes of each task at once and remember nothing.

    Args:
        outputs: the networks: observations (tasks, episodes, *input) to outputs (tasks, episodes, outputs).
        distribution: reads the outputs.
        actions: actions that the networks were made for.
        tasks: number of tasks.
    """

    def __init__(
        self, outputs: Callable[[Tensor], Tensor], distribution: ActionDistribution, actions: Actions, tasks: int
    ) -> None:
        self.outputs = outputs
        self.distribution = distribution
        self.actions = actions
        self.tasks = tasks

    def start(self, trial: TrialStart) -> TrialNoise:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments have other actions than those that the policies were made for.
        """
        trial.check_actions(self.actions)
        return TrialNoise(trial.numbers, self.distribution.words, "policy")

    def act(self, memory: TrialNoise, observation: Tensor) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        outputs = self.outputs(observation.view(self.tasks, -1, *observation.shape[1:]))
        return self.distribution.draw(outputs.flatten(0, 1), memory.next())

    def learn(self, memory: TrialNoise, transition: Transition) -> TrialNoise:
        """See :meth:`ControlPolicy.learn`; nothing is learned."""
        return memory

    def skip(self, memory: TrialNoise, steps: int) -> bool:
        """See :meth:`ControlPolicy.skip`."""
        memory.skip(steps)
        return True


def play_episodes(
    world: World, numbers: Tensor, policy: StackedPolicy, phase: int, episodes: int, in_a_row: int = 1
) -> Rollouts:
    """Let the policies play independent episodes, those of all tasks at once.

    Args:
        world: environments of the tasks.
        numbers: (tasks,) int64 in [0, 2**40), ``Examples.number`` of the tasks.
        policy: the policies.
        phase: what the episodes are for: the number of an inner step, or ``QUERIES``. Phases have independent random numbers,
            so that episodes are a function of the task's number, the phase and their own number, whatever is played beside.
        episodes: number of episodes of each task that are played at once.
        in_a_row: episodes of each of these, one after the other.

    Returns:
        Rollouts with ``in_a_row`` episodes of ``tasks * episodes`` tasks; those of a task are neighbours.
    """
    each = torch.arange(episodes, device=numbers.device)
    several = numbers[:, None] | (each << _EPISODE) | (phase << _PHASE)
    parameters = {name: value.repeat_interleave(episodes, 0) for name, value in world.parameters.items()}
    with torch.no_grad():
        return play(World(world.environment, parameters, in_a_row), several.flatten(), policy)
