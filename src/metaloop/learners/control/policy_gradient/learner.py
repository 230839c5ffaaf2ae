"""MAML with policy gradients, and its variants: a policy that adapts to a task by episodes that it plays there."""

import copy
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.control.distributions import distribution_of
from metaloop.control.environments.environment import World
from metaloop.control.rollouts import Rollouts
from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.inner.execution.over_tasks import Loop, with_gradient
from metaloop.inner.meta_gradients.evolution import EvolutionStrategies
from metaloop.inner.meta_gradients.meta_gradient import FirstOrder, MetaGradient, Nothing, Unrolled
from metaloop.inner.objective import Objective
from metaloop.inner.problem import InnerProblem
from metaloop.inner.rules.rule import InnerRule
from metaloop.inner.selection.adapted import Adapted
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.learners.control.policy_gradient.baselines import ReturnBaseline
from metaloop.learners.control.policy_gradient.evolved import Fitness, check_evolved, evolved_gradient
from metaloop.learners.control.policy_gradient.played import AdvantageEstimator, PlayedEpisodes, gathered
from metaloop.learners.control.policy_gradient.policy_task import (
    PolicyTask,
    State,
    outputs_of_tasks,
    start_of_tasks,
    step_of_tasks,
)
from metaloop.learners.control.policy_gradient.replay import Replay
from metaloop.learners.control.policy_gradient.stacked import (
    MOST_EPISODES,
    QUERIES,
    StackedPolicy,
    made_policy,
    play_episodes,
)
from metaloop.learners.control.policy_gradient.surrogates import InnerSurrogate
from metaloop.learners.control.policy_gradient.updates import OuterUpdate
from metaloop.learners.gradient.adaptation import curve_steps
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.gradient_task import adapted_names, check_counts
from metaloop.learners.learner import Answer, Learner, Predictor, Requirements
from metaloop.models.norm import norm_modes
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

_INDEPENDENT = {"none", "group", "layer"}  # norm modes in which an action depends on its observation alone


class PolicyGradientLearner(Learner):
    """A stochastic policy whose parameters adapt by policy gradients, each step on new episodes in the task.

    The queries are further episodes, of the adapted policy, which are not learned from: every point of the adaptation curve is
    the return of as many of them after so many steps, with the same random numbers. See docs/control_gradients.md.

    Args:
        model: the policy's network, with a head: unnormalized log-probabilities of discrete actions, or means.
        loss: loss of one task.
        actions: actions of the environments.
        adapted: selects the parameters that the inner loop changes.
        rule: builds the inner rule from the adapted parameters.
        meta_gradient: ``unrolled`` (exact), ``first_order``, ``evolution`` (of the returns alone) or ``none``.
        objective: weights of the inner iterates in the outer loss.
        inner_surrogate: what inner steps ascend.
        baseline: predicts the reward that is left, in both loops.
        outer_update: how the meta-parameters move.
        steps: number of inner steps in meta-training, at least 1.
        eval_steps: number of inner steps in validation and test; None for ``steps``.
        episodes: episodes of each inner step.
        eval_episodes: the same in validation and test; None for ``episodes``.
        discount: how much a reward counts that comes a step later, in (0, 1].
        trace: lambda of the generalized advantages, in [0, 1].
        standardize: whether advantages of each task have mean 0 and deviation 1.
        head_scale: factor of the head's parameters at the start, above 0.
        deviation: deviation of continuous actions at the start, above 0.
    """

    requires: ClassVar[Requirements] = Requirements(actions=True)
    transductive = False

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        adapted: Adapted,
        rule: Callable[[Params], InnerRule],
        meta_gradient: MetaGradient,
        objective: Objective,
        inner_surrogate: InnerSurrogate,
        baseline: ReturnBaseline,
        outer_update: OuterUpdate,
        *,
        steps: int,
        eval_steps: int | None,
        episodes: int,
        eval_episodes: int | None,
        discount: float,
        trace: float,
        standardize: bool,
        head_scale: float,
        deviation: float,
    ) -> None:
        super().__init__()
        check_counts(steps=steps, eval_steps=eval_steps, episodes=episodes, eval_episodes=eval_episodes)
        _check(meta_gradient, steps, eval_steps, episodes, eval_episodes, discount, trace)
        if isinstance(meta_gradient, EvolutionStrategies):
            check_evolved(outer_update)
        made_policy(model, actions, head_scale, deviation)
        model = adapted.attach(model)
        names = adapted_names(adapted, model)
        self.model, self.actions = model, actions
        self.rule = rule({name: model.get_parameter(name).detach() for name in names})
        self.meta_gradient = meta_gradient
        self.learns = not isinstance(meta_gradient, Nothing)
        self.objective, self.update = objective, outer_update
        self.passes, self.whole_step = outer_update.passes, outer_update.whole_step
        self.episodes, self.eval_episodes = episodes, eval_episodes or episodes
        self.eval_steps = eval_steps or steps
        self.estimator = AdvantageEstimator(baseline, discount, trace, standardize)
        self.task = PolicyTask(FunctionalModel(model), names, distribution_of(actions), inner_surrogate)
        _check_norms(model)
        self.problem = InnerProblem(self.task, self.rule, objective.weights(steps, 0), steps)
        self.over_tasks = Loop()  # unused: all tasks of a batch take a step at once
        self._meta = {n: p for n, p in self.named_parameters() if p.requires_grad}
        played_by = {"model": model, "rule": self.rule} if self.passes > 1 else {}
        self.played_by = copy.deepcopy(nn.ModuleDict(played_by))  # what played the meta-batch that passes have in common
        self.played_by.requires_grad_(False)
        self._replay: tuple[int, Replay] | None = None  # of the passes over one meta-batch, by the number of the first

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; the queries are episodes of the adapted policy, and the answers their returns."""
        if unlabelled is not None:
            raise UserError("policies that adapt do not use unlabelled examples; take episode.unlabelled=0")
        points = curve_steps(self.eval_steps)
        policies = [policy for taken, policy in enumerate(self.policies(support)) if taken in points]
        return Predictor([self._answer(support, policy) for policy in policies], points)

    def policies(self, support: Examples) -> list[StackedPolicy]:
        """Return the policies of stacked tasks before adaptation and after each of ``eval_steps`` inner steps."""
        meta, world, number = detached(self._meta), world_of(support), numbers_of(support)
        at = start_of_tasks(self.problem, meta, len(number))
        policies = [self._policy(meta, at[0])]
        for step in range(self.eval_steps):
            experience = gathered(world, number, policies[-1], step, self.eval_episodes, self.estimator)
            at = step_of_tasks(self.problem, meta, at, experience, step, second_order=False)
            policies.append(self._policy(meta, detached(at[0])))
        return policies

    def _answer(self, support: Examples, policy: StackedPolicy) -> Answer:
        def returns(x: Inputs, mask: Tensor | None) -> Tensor:
            assert isinstance(x, Tensor)
            return self._queries(world_of(support), numbers_of(support), policy, x.shape[1])

        return returns

    @staticmethod
    def _queries(world: World, number: Tensor, policy: StackedPolicy, count: int) -> Tensor:
        rollouts: Rollouts = play_episodes(world, number, policy, QUERIES, count)
        return rollouts.outcomes.view(len(number), count, *rollouts.outcomes.shape[2:])

    def _policy(self, meta: Params, params: Params) -> StackedPolicy:
        tasks = len(next(iter(params.values())))
        return StackedPolicy(
            lambda x: outputs_of_tasks(self.task, meta, params, x), self.task.distribution, self.actions, tasks
        )

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; plays the episodes of the meta-batch, or takes those of the first pass over it.

        The loss is minus the return of the episodes after adaptation; its gradient is what the outer update says.
        """
        first = self.outer_step - self.outer_step % self.passes
        if self._replay is None or self._replay[0] != first or self.passes == 1:
            self._replay = first, self._played(tasks)
        replay = self._replay[1]
        gradients = {name: torch.zeros_like(value) for name, value in self._meta.items()}
        if self.learns:
            gradients = dict(self._gradient(replay, tasks))
        returns = {taken: part.returns for taken, part in replay.outer.items()}
        per_step = torch.stack([-each.mean(1) for each in returns.values()], 1)
        weights = per_step.new_tensor([replay.problem.weights[taken] for taken in returns])
        value = with_gradient((per_step @ weights).mean(), self._meta, gradients)
        return OuterLoss(value, returns[max(returns)], per_step)

    def _gradient(self, replay: Replay, tasks: Tasks) -> Params:
        """What the outer optimizer descends, the mean over tasks."""
        if not isinstance(self.meta_gradient, EvolutionStrategies):
            return self.update.gradient(replay, self._meta)
        world, number = world_of(tasks.support), numbers_of(tasks.support)
        fitness = Fitness(replay.problem, world, number, self.actions, self.episodes, self.estimator)
        return evolved_gradient(self.meta_gradient, fitness, detached(self._meta))

    def _played(self, tasks: Tasks) -> Replay:
        """Play the episodes of a meta-batch."""
        meta, world, number = self._player(), world_of(tasks.support), numbers_of(tasks.support)
        weights = self.objective.weights(self.problem.steps, self.outer_step)
        problem = InnerProblem(self.task, self.rule, weights, self.problem.steps, outer_step=self.outer_step)
        at: State = start_of_tasks(problem, meta, len(number))
        inner: list[PlayedEpisodes] = []
        outer: dict[int, PlayedEpisodes] = {}
        for step in range(problem.horizon + 1):
            policy = self._policy(meta, at[0])
            if weights[step]:
                outer[step] = gathered(world, number, policy, QUERIES, world.episodes, self.estimator)
            if step < problem.horizon:
                inner.append(gathered(world, number, policy, step, self.episodes, self.estimator))
                after = step_of_tasks(problem, meta, at, inner[-1], step, second_order=False)
                at = detached(after[0]), detached(after[1])
        return Replay(problem, 0 if isinstance(self.meta_gradient, Unrolled) else problem.steps, inner, outer)

    def _player(self) -> Params:
        """The meta-parameters that play this meta-batch: those of the first pass over it."""
        if self.passes == 1:
            return detached(self._meta)
        if self.outer_step % self.passes == 0:
            self.played_by["model"].load_state_dict(self.model.state_dict())
            self.played_by["rule"].load_state_dict(self.rule.state_dict())
        played_by = dict(self.played_by.named_parameters())
        return {name: played_by[name].detach() for name in self._meta}


def _check(
    meta_gradient: MetaGradient,
    steps: int,
    eval_steps: int | None,
    episodes: int,
    eval_episodes: int | None,
    discount: float,
    trace: float,
) -> None:
    """Raise a UserError for settings that are not allowed."""
    if not isinstance(meta_gradient, Unrolled | FirstOrder | EvolutionStrategies | Nothing):
        raise UserError(
            f"algorithm.meta_gradient={type(meta_gradient).__name__}: policy gradients take algorithm/meta_gradient=unrolled, "
            f"first_order, evolution or none"
        )
    for key, value, most in (
        ("steps", max(steps, eval_steps or 0), QUERIES),
        ("episodes", max(episodes, eval_episodes or 0), MOST_EPISODES),
    ):
        if value > most:
            raise UserError(f"algorithm.{key}={value}: at most {most}, the numbers of the random streams of a task")
    if not 0 < discount <= 1:
        raise UserError(f"algorithm.discount={discount}: above 0 and at most 1")
    if not 0 <= trace <= 1:
        raise UserError(f"algorithm.trace={trace}: between 0 and 1")


def _check_norms(model: nn.Module) -> None:
    """Raise a UserError if an action would depend on other observations than its own."""
    shared = norm_modes(model) - _INDEPENDENT
    if shared:
        raise UserError(
            f"model.norm={', '.join(sorted(shared))}: a policy acts on one observation, so statistics of several mean nothing "
            f"to it; take model.norm=layer, group or none"
        )
