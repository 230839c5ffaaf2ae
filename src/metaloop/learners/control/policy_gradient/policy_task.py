"""A task of a policy that adapts by policy gradients: its start and losses, as functions of the meta-parameters."""

import torch
from torch import Tensor

from metaloop.control.distributions import ActionDistribution
from metaloop.inner.autodiff import Functional
from metaloop.inner.problem import MODEL, InnerProblem, TaskModel
from metaloop.learners.control.policy_gradient.played import PlayedEpisodes
from metaloop.learners.control.policy_gradient.surrogates import InnerSurrogate
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.types import Examples, Params

State = tuple[Params, Params]  # an iterate and the rule's state, of stacked tasks


class PolicyTask(TaskModel):
    """The start and the surrogates of a task, whose examples are an :class:`PlayedEpisodes` of the policy adapted so far.

    Args:
        model: the policy's network.
        adapted: names of the parameters that the inner loop changes.
        distribution: reads the network's outputs.
        surrogate: what inner steps ascend.
    """

    def __init__(
        self, model: FunctionalModel, adapted: tuple[str, ...], distribution: ActionDistribution, surrogate: InnerSurrogate
    ) -> None:
        self.model = model
        self.adapted = adapted
        self.distribution = distribution
        self.surrogate = surrogate
        # Parameters that start from a fixed value, such as a context of zeros, are no meta-parameters.
        self._fixed = {n: p for n in adapted if not (p := model.module.get_parameter(n)).requires_grad}

    def learned(self, meta: Params) -> Params:
        """Return the adapted parameters' values before adaptation."""
        like = next(iter(meta.values()))
        return {n: self._fixed[n].to(like) if n in self._fixed else meta[MODEL + n] for n in self.adapted}

    def start(self, meta: Params, support: Examples) -> Params:
        """See :meth:`TaskModel.start`."""
        return self.learned(meta)

    def outputs(self, meta: Params, params: Params, x: Tensor) -> Tensor:
        """Return the network's outputs for observations (examples, *input)."""
        return self.model.outputs(meta, params, x, None)

    def log_ratio(self, outputs: Tensor, experience: PlayedEpisodes) -> Tensor:
        """Logarithm of each action's probability over that when it was drawn, (..., examples); 0 after the end of episodes."""
        difference = self.distribution.log_probability(outputs, experience.y) - experience.log_probabilities
        assert experience.mask is not None
        return torch.where(experience.mask, difference, torch.zeros_like(difference))

    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """See :meth:`TaskModel.support_loss`; minus the surrogate, as a mean over all steps that the episodes could have."""
        experience = _experience(support)
        ratio = self.log_ratio(self.outputs(meta, params, _observations(experience)), experience)
        shape = experience.episodes, -1
        return -self.surrogate.gains(ratio.view(shape), experience.advantages.view(shape)).mean()

    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples, taken: int) -> tuple[Tensor, Tensor]:
        """See :meth:`TaskModel.query_loss`; minus the mean of the ratio times the advantage, and the network's outputs."""
        experience = _experience(query)
        outputs = self.outputs(meta, params, _observations(experience))
        return -(self.log_ratio(outputs, experience).exp() * experience.advantages).mean(), outputs


def _experience(examples: Examples) -> PlayedEpisodes:
    assert isinstance(examples, PlayedEpisodes)
    return examples


def _observations(experience: PlayedEpisodes) -> Tensor:
    assert isinstance(experience.x, Tensor)
    return experience.x


def start_of_tasks(problem: InnerProblem, meta: Params, tasks: int, *, own_meta: bool = False) -> State:
    """Return the start of so many tasks, (tasks, ...) each; with ``own_meta``, ``meta`` has such an axis, too."""
    assert isinstance(problem.task, PolicyTask)
    task = problem.task

    def one(meta: Params) -> State:
        start = task.learned(meta)
        return start, problem.first_state(meta, start)

    if own_meta:
        started: State = torch.func.vmap(one)(meta)
        return started
    params, stacked = ({n: v.expand(tasks, *v.shape) for n, v in part.items()} for part in one(meta))
    return params, stacked


def step_of_tasks(
    problem: InnerProblem,
    meta: Params,
    at: State,
    experience: PlayedEpisodes,
    step: int,
    *,
    second_order: bool,
    own_meta: bool = False,
) -> State:
    """Take inner step number ``step`` in all tasks at once; differentiable by ``torch.autograd`` in ``meta`` and ``at``.

    With ``own_meta``, each task has meta-parameters of its own, (tasks, ...) each.
    """

    def one(meta: Params, params: Params, state: Params, part: PlayedEpisodes) -> State:
        return problem.step(meta, params, state, part, step, Functional(), second_order=second_order)

    after: State = torch.func.vmap(one, in_dims=(0 if own_meta else None, 0, 0, 0))(meta, *at, experience)
    return after


def outputs_of_tasks(task: PolicyTask, meta: Params, params: Params, x: Tensor, *, own_meta: bool = False) -> Tensor:
    """Outputs (tasks, examples, outputs) for observations (tasks, examples, *input), each task with its parameters.

    With ``own_meta``, each task has meta-parameters of its own, (tasks, ...) each.
    """
    outputs: Tensor = torch.func.vmap(task.outputs, in_dims=(0 if own_meta else None, 0, 0))(meta, params, x)
    return outputs
