"""What learners that act have in common: the trials of a policy as the answers of a predictor."""

from functools import partial

import torch
from torch import Tensor

from metaloop.control.environments.environment import World
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import play
from metaloop.errors import UserError
from metaloop.learners.learner import Predictor
from metaloop.types import Examples, Inputs

_POINTS = 50  # of the curve of total reward against episodes


def world_of(support: Examples) -> World:
    """The environments of the tasks.

    Raises:
        UserError: the tasks are no environments.
    """
    if isinstance(support.world, World):
        return support.world
    raise UserError(
        "algorithm: this learner acts in environments, but the data set's tasks are examples; take dataset=bernoulli_bandits "
        "or another of docs/control.md"
    )


def numbers_of(support: Examples) -> Tensor:
    """The numbers (tasks,) of the tasks, from which all that is random in them is drawn."""
    assert support.number is not None
    return support.number


def predictor(policy: ControlPolicy, support: Examples) -> Predictor:
    """Make a predictor whose queries are the episodes of a trial and whose answers are their outcomes (tasks, episodes, ...).

    Its iterates are the trial after some of its episodes, with returns of 0 for those to come; the last is the whole trial.
    """
    world, numbers = world_of(support), numbers_of(support)

    def outcomes(x: Inputs, mask: Tensor | None) -> Inputs:
        with torch.no_grad():
            return play(world, numbers, policy).outcomes

    def first(count: int, x: Inputs, mask: Tensor | None) -> Tensor:
        assert isinstance(x, Tensor)
        counted = torch.arange(x.shape[1], device=x.device) < count
        return x * (counted[:, None] if x.dim() == 3 else counted)

    points = sorted({round(1 + (world.episodes - 1) * i / (_POINTS - 1)) for i in range(_POINTS)})
    return Predictor([partial(first, count) for count in points], points, outcomes)
