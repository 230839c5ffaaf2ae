"""Gradient-based meta-learning: MAML and its variants, composed from config choices."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.head_init import HeadInit
from metaloop.inner.meta_gradients.meta_gradient import Displacement, MetaGradient, Nothing
from metaloop.inner.objective import Objective
from metaloop.inner.problem import InnerProblem
from metaloop.inner.rules.rule import InnerRule
from metaloop.inner.selection.adapted import Adapted
from metaloop.learners.gradient.adaptation import adapt, adapted_before
from metaloop.learners.gradient.augmentation import NoAugmentation, SupportAugmentation
from metaloop.learners.gradient.constant_part import ConstantPart
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.gradient_task import GradientTask, adapted_names, check_counts
from metaloop.learners.gradient.kept_state import KeptState
from metaloop.learners.gradient.step_norms import StepNorms
from metaloop.learners.gradient.support_loss import MeanLoss, SupportLoss
from metaloop.learners.gradient.support_order import Rotation, SupportOrder
from metaloop.learners.learner import Learner, Predictor, PureOuterStep, Requirements, TakesSteps
from metaloop.learners.refusals import errors_name_the_fix
from metaloop.models.adapter import as_model
from metaloop.models.norm import norm_modes, observing
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

_LATE = 2**62  # an outer step after the end of every schedule


class GradientLearner(Learner, TakesSteps, PureOuterStep):
    """MAML and its variants, see docs/algorithms.md.

    Args:
        model: the network; its head is the submodule ``head``.
        loss: loss of one task.
        adapted: selects the parameters that the inner loop changes.
        rule: builds the inner rule from the adapted parameters.
        meta_gradient: computes, or approximates, the gradient of the outer loss.
        objective: weights of the inner iterates in the outer loss.
        head_init: how the head starts in each task.
        over_tasks: how per-task functions are run.
        steps: number of inner steps in meta-training, at least 1.
        eval_steps: number of inner steps in validation and test; None for ``steps``.
        inner_batch: number of support examples in each inner step; None for all.
        eval_inner_batch: the same in validation and test; None for ``inner_batch``.
        inner_order: order in which inner batches go through the support examples; None for a fixed rotation.
        norm_steps: number of inner steps for which norm layers have their own scale and offset; None for one of each for all.
        support_loss: reduces the losses of the support examples to the scalar that an inner step minimises; None for the mean.
        augmentation: changes the support inputs in each inner step; None for no change.
        proximal: strength of the pull towards the start, see :meth:`metaloop.inner.problem.InnerProblem.inner_loss`.
    """

    requires: ClassVar[Requirements] = Requirements()

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        adapted: Adapted,
        rule: Callable[[Params], InnerRule],
        meta_gradient: MetaGradient,
        objective: Objective,
        head_init: HeadInit,
        over_tasks: OverTasks,
        steps: int,
        eval_steps: int | None = None,
        inner_batch: int | None = None,
        proximal: float = 0.0,
        support_loss: SupportLoss | None = None,
        augmentation: SupportAugmentation | None = None,
        eval_inner_batch: int | None = None,
        inner_order: SupportOrder | None = None,
        norm_steps: int | None = None,
    ) -> None:
        super().__init__()
        if not proximal >= 0:
            raise UserError(f"algorithm.proximal={proximal}: at least 0")
        check_counts(steps=steps, eval_steps=eval_steps, inner_batch=inner_batch, eval_inner_batch=eval_inner_batch)
        check_counts(norm_steps=norm_steps)
        model = adapted.attach(model)
        names = adapted_names(adapted, model)
        start = {name: model.get_parameter(name).detach() for name in names}
        head_init.check(start)
        self.model = model
        self.rule = rule(start)
        self.support_loss = support_loss or MeanLoss()
        self.augmentation = augmentation or NoAugmentation()
        self.eval_steps = eval_steps or steps
        self.meta_gradient = meta_gradient
        self.learns = not isinstance(meta_gradient, Nothing)
        if head_init.classification and not loss.of_classes:
            raise UserError(
                "algorithm/head_init: this start needs classes, and regression has none; take algorithm/head_init=learned"
            )
        if head_init.redraws and self.learns:
            for name in names:
                model.get_parameter(name).requires_grad_(False)  # a learned value would never be used
        self.objective = objective
        self.over_tasks = over_tasks
        losses = loss, self.support_loss, self.augmentation
        self.step_norms = None if norm_steps is None else StepNorms(model, names, norm_steps)
        steps_through = inner_batch, inner_order or Rotation(), self.step_norms
        task = GradientTask(FunctionalModel(model), names, head_init, *losses, *steps_through)
        self.training_problem = InnerProblem(task, self.rule, objective.weights(steps, 0), steps, proximal)
        self.task = task if eval_inner_batch is None else task.in_batches(eval_inner_batch)
        self.problem = replace(self.training_problem, task=self.task)
        meta_gradient.check(self.training_problem)
        meta_gradient.check(replace(self.training_problem, weights=objective.weights(steps, _LATE)))
        keeps_state = False
        if isinstance(meta_gradient, Displacement):
            self._check_displacement(names)
            keeps_state = meta_gradient.keep_state
        self.state = KeptState(self.rule.init(start) if keeps_state else {})
        self._meta = {n: p for n, p in self.named_parameters() if p.requires_grad}
        if not self._meta:
            raise UserError(
                "algorithm: nothing is left for the outer loop to learn (no meta-parameter); take algorithm/meta_gradient=none"
            )
        self._observes = "running" in norm_modes(model)
        moving = {*names, *(name for name, value in model.named_parameters() if value.requires_grad)}
        self._constant = ConstantPart(model, moving, self.augmentation)

    def _check_displacement(self, names: tuple[str, ...]) -> None:
        """Raise a UserError if there is anything to learn but the start, or if the start is fixed."""
        if not any(self.model.get_parameter(name).requires_grad for name in names):
            raise UserError(
                "algorithm.meta_gradient=displacement learns the start, but what adapts has a fixed one; take another"
            )
        if self.step_norms is not None:
            raise UserError("algorithm.meta_gradient=displacement cannot learn norms of steps; set algorithm.norm_steps=null")
        for key, part in (("support_loss", self.support_loss), ("augmentation", self.augmentation)):
            if any(True for _ in part.parameters()):
                raise UserError(
                    f"algorithm.meta_gradient=displacement cannot learn algorithm/{key}; take one without parameters"
                )

    @property
    def transductive(self) -> bool:
        """Whether a query's answer depends on the other queries: true with batch statistics."""
        return "batch" in norm_modes(self.model)

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; the head answers a fixed number of classes."""
        head = as_model(self.model).linear_head
        if head is not None and ways > head.out_features:
            raise UserError(
                f"episode.ways={ways}: the model's head was made for {head.out_features} ways and cannot answer more; "
                f"train with episode.train.ways={ways}, or take algorithm=prototypes, which has no head"
            )

    def meta_parameters(self) -> Params:
        """Return the parameters that the outer loop learns, by qualified name."""
        return self._meta

    def steps_for(self, examples: int) -> int:
        """See :meth:`TakesSteps.steps_for`."""
        return self.eval_steps

    def values(self) -> Params:
        """See :meth:`TakesSteps.values`."""
        return detached({**self._meta, **self.state.values()})

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; some inner iterates are kept for the adaptation curve."""
        if unlabelled is not None:
            raise UserError("gradient-based learners do not use unlabelled examples; take episode.unlabelled=0")
        return adapt(self.task, self.problem, self.values(), support, self.eval_steps, self.over_tasks)

    def adapted_before(self, support: Examples, adapted: Params) -> Predictor:
        """See :meth:`TakesSteps.adapted_before`."""
        return adapted_before(self.task, self.values(), support, adapted, self.eval_steps, self.over_tasks)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`."""
        problem = self._problem_now()
        inputs = self._constant.tasks(tasks)
        with errors_name_the_fix():
            meta = {**self.meta_parameters(), **self.state.values()}
            loss = self.meta_gradient.loss(problem, meta, inputs, self.over_tasks)
        if self.training:
            self.state.move(loss.state)
        if self._observes and self.training:
            self._observe(tasks)
        return loss

    def phase(self, outer_step: int) -> Hashable | None:
        """See :meth:`PureOuterStep.phase`."""
        if self.state.values() or self._observes or self._constant.call is not None or not self.learns:
            return None
        return self.objective.weights(self.training_problem.steps, outer_step), self.meta_gradient.phase(outer_step)

    def outer_gradient(self, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`PureOuterStep.outer_gradient`."""
        return self.meta_gradient.mean(self._problem_now(), meta, tasks, over_tasks)

    def _problem_now(self) -> InnerProblem:
        """The inner problem of the current outer step."""
        weights = self.objective.weights(self.training_problem.steps, self.outer_step)
        return replace(self.training_problem, weights=weights, outer_step=self.outer_step)

    def _observe(self, tasks: Tasks) -> None:
        """Update running averages by one forward pass over the support sets, before adaptation."""
        flat = tasks.support.map(lambda tensor: tensor.flatten(0, 1))
        with torch.no_grad(), observing(self.model):
            self.model(*self.task.model.arguments(flat.x, flat.mask))
