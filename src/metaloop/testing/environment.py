"""Check a family of environments against its contract."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.environment import Environment, Step, World
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, TrialStart
from metaloop.control.rollouts import Rollouts, play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.testing.laws import BrokenLaw, require, require_shape
from metaloop.types import EpisodeSpec, Tasks

_TASKS = 256
_LONGEST = 10**6  # steps of an episode that anybody would wait for
_DEVIATIONS = 5.0  # of the mean, beyond which a difference is no chance


def check_environment(environment: Environment, *, episodes: int = 2, seed: int = 0) -> None:
    """Check a family against the contract of :class:`metaloop.control.environments.environment.Environment`.

    Tasks must be functions of (seed, split, number) and differ; a step must leave its arguments alone and depend on its task
    only; rewards and observations must be finite and keep their shapes; episodes must end; and no policy may earn more than
    ``best_return`` says.

    Args:
        environment: the family.
        episodes: episodes of a trial to play.
        seed: seed of the tasks.

    Raises:
        BrokenLaw: a law is broken; the message names the task and the step where there is one.
    """
    horizon = environment.horizon
    right = isinstance(horizon, int) and 1 <= horizon <= _LONGEST
    require(right, f"horizon={horizon!r}: an episode must have an end, after at least 1 and at most {_LONGEST} steps")
    drawn = Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(seed, "train"))
    tasks = drawn.tasks(torch.arange(_TASKS))
    assert isinstance(tasks.support.x, Tensor)
    require_shape(tasks.support.x, (_TASKS, 1, *environment.input_shape), "observe: observations must be finite")
    _check_tasks(drawn, tasks)
    _check_step(environment, tasks)
    rollouts = _played(tasks, Random())
    require_shape(rollouts.observations, tuple(rollouts.observations.shape), "observe: observations must be finite")
    few = _played(tasks[3:7], Random())
    same = torch.allclose(few.rewards, rollouts.rewards[:, 3:7]) and torch.equal(few.done, rollouts.done[:, 3:7])
    require(same, "step: what happens in a task must not depend on the tasks beside it, nor on what was played before")
    if environment.problem.best_known:  # type: ignore[attr-defined]
        _check_best(environment, tasks, rollouts)


def _world(tasks: Tasks) -> World:
    assert isinstance(tasks.support.world, World)
    return tasks.support.world


def _played(tasks: Tasks, policy: ControlPolicy) -> Rollouts:
    assert tasks.support.number is not None
    try:
        return play(_world(tasks), tasks.support.number, policy)
    except UserError as error:
        raise BrokenLaw(str(error)) from error


def _check_tasks(episodes: Episodes, tasks: Tasks) -> None:
    backwards = episodes.tasks(torch.arange(_TASKS).flip(0)).map(lambda tensor: tensor.flip(0))
    equal = all(torch.equal(a, b) for a, b in zip(tree_leaves(tasks), tree_leaves(backwards), strict=True))
    require(equal, "parameters: a task must be a function of its number alone (draw every random number from the stream)")
    values = [value.reshape(_TASKS, -1).double() for value in tree_leaves(_world(tasks).parameters)]
    different = len(torch.unique(torch.cat(values, 1), dim=0))
    require(different > 1, f"parameters: the first {_TASKS} tasks are all the same")


def _check_step(environment: Environment, tasks: Tasks) -> None:
    """Take one step, and look at the arguments afterwards."""
    world, numbers = _world(tasks), tasks.support.number
    assert numbers is not None
    state = environment.reset(world.parameters, TrialNoise(numbers, environment.start_noise, "starts").next())
    policy = Random()
    actions = policy.act(policy.start(TrialStart(environment, numbers, 1, None)), None)
    arguments = (dict(world.parameters), dict(state), actions)
    copies = tree_map(Tensor.clone, arguments)
    result = environment.step(*arguments, TrialNoise(numbers, environment.noise, "steps").next())
    require(isinstance(result, Step), f"step returns a {type(result).__name__}, it must be a Step")
    kept = all(torch.equal(a, b) for a, b in zip(tree_leaves(arguments), tree_leaves(copies), strict=True))
    require(kept, "step: parameters, state and actions must not be changed in place")
    require(result.reward.is_floating_point(), f"step: reward is of {result.reward.dtype}, it must be float")
    done = result.done
    require(done is None or done.dtype == torch.bool, f"step: done is of {getattr(done, 'dtype', None)}, it must be bool")


def _check_best(environment: Environment, tasks: Tasks, rollouts: Rollouts) -> None:
    by_policy = {"random actions": rollouts}
    if type(environment).best_actions is not Environment.best_actions:
        by_policy["best_actions"] = _played(tasks, Told())
    for name, each in by_policy.items():
        more = (each.returns - tasks.query.y).mean(1)
        chance = _DEVIATIONS * float(more.std()) / len(more) ** 0.5 + 1e-4
        require(float(more.mean()) <= chance, f"best_return: {name} earn {float(more.mean()):.4g} more than it says on average")
