"""Gradient-based meta-learning: MAML and its variants, composed from config choices."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.head_init import HeadInit
from metaloop.inner.meta_gradients.meta_gradient import Displacement, MetaGradient, Nothing
from metaloop.inner.module_call import ModuleCall
from metaloop.inner.objective import Objective
from metaloop.inner.problem import MODEL, InnerProblem, TaskModel
from metaloop.inner.rules.rule import InnerRule
from metaloop.inner.selection.adapted import HEAD, Adapted
from metaloop.learners.gradient.adaptation import adapt, adapted_before
from metaloop.learners.gradient.augmentation import NoAugmentation, SupportAugmentation
from metaloop.learners.gradient.constant_part import ConstantPart
from metaloop.learners.gradient.functional_model import FunctionalModel, HeadAlone
from metaloop.learners.gradient.support_loss import MeanLoss, SupportLoss
from metaloop.learners.learner import Learner, Predictor, Requirements, TakesSteps
from metaloop.learners.refusals import errors_name_the_fix
from metaloop.models.adapter import as_model
from metaloop.models.norm import norm_modes, observing
from metaloop.problems.task_loss import TaskLoss, without_absent_classes
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

_LATE = 2**62  # an outer step after the end of every schedule
SUPPORT_LOSS, AUGMENTATION = "support_loss.", "augmentation."  # prefixes of their parameters among the meta-parameters


class GradientTask(TaskModel):
    """The start, losses and answers of a task, as functions of the meta-parameters.

    Args:
        model: the network.
        adapted: names of the parameters that the inner loop changes.
        head_init: how the head starts in each task.
        loss: loss of one task.
        support_loss: reduces the losses of the support examples to the scalar that an inner step minimises.
        augmentation: changes the support inputs in each inner step.
        inner_batch: number of support examples in each inner step, which cycle; None for all.
    """

    def __init__(
        self,
        model: FunctionalModel,
        adapted: tuple[str, ...],
        head_init: HeadInit,
        loss: TaskLoss,
        support_loss: SupportLoss,
        augmentation: SupportAugmentation,
        inner_batch: int | None,
    ) -> None:
        self.model = model
        self.adapted = adapted
        self.head_init = head_init
        self.loss = loss
        self._support_loss = support_loss
        self.augmentation = augmentation
        self.inner_batch = inner_batch
        self._augment, self._reduce = _Part(augmentation, AUGMENTATION), _Part(support_loss, SUPPORT_LOSS)
        # Parameters that start from a fixed value are no meta-parameters.
        self._fixed = {n: p for n in adapted if not (p := model.module.get_parameter(n)).requires_grad}

    def start(self, meta: Params, support: Examples) -> Params:
        """See :meth:`TaskModel.start`."""
        params = self._learned(meta)
        return self.head_init.start(params, support, lambda at: self.model.features(meta, at, support.x, support.mask))

    def _learned(self, meta: Params) -> Params:
        """Return the adapted parameters' values before adaptation and before ``head_init``."""
        like = next(iter(meta.values()))
        return {n: self._fixed[n].to(like) if n in self._fixed else meta[MODEL + n] for n in self.adapted}

    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """See :meth:`TaskModel.support_loss`."""
        batch = self._batch(support, step)
        x = self._augment(meta, (batch, step))
        logits = self.model.outputs(meta, params, x, batch.mask)
        losses = self.loss.each(without_absent_classes(logits, support), batch)
        loss: Tensor = self._reduce(meta, (losses, batch.mask))
        return loss

    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples) -> tuple[Tensor, Tensor]:
        """See :meth:`TaskModel.query_loss`."""
        logits = self.answer(meta, params, support, query.x, query.mask)
        return self.loss(logits, query), logits

    def answer(self, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """Answer one task's queries ``x`` (queries, *input): (queries, *output)."""
        return without_absent_classes(self.model.query_outputs(meta, params, support, x, mask), support)

    def on_features(self) -> "GradientTask | None":
        """Return the same task on the head's inputs as ``x``; None if an inner step may change them."""
        model, head = self.model.module, self.model.contract.linear_head
        if head is None or not all(name.startswith(HEAD) for name in self.adapted):
            return None
        shared = {"batch", "support"} & norm_modes(model)  # then features depend on the examples of a batch
        if model.training or (shared and self.inner_batch is not None) or not isinstance(self.augmentation, NoAugmentation):
            return None
        losses = self.loss, self._support_loss, self.augmentation
        return GradientTask(FunctionalModel(HeadAlone(head)), self.adapted, self.head_init, *losses, self.inner_batch)

    def features(self, meta: Params, support: Examples) -> Tensor:
        """Compute the head's inputs for one task's support set before adaptation: (examples, features)."""
        return self.model.features(meta, self._learned(meta), support.x, support.mask)

    def query_features(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """Compute the head's inputs for one task's queries before adaptation: (queries, features)."""
        return self.model.query_features(meta, self._learned(meta), support, x, mask)

    def _batch(self, support: Examples, step: int) -> Examples:
        """Select the support examples of one step: all, or the next ``inner_batch`` of a fixed order that mixes classes."""
        count = len(support.y)
        if self.inner_batch is None or self.inner_batch >= count:
            return support
        rows = torch.arange(step * self.inner_batch, (step + 1) * self.inner_batch, device=support.y.device) % count
        stride = next(s for s in range(int(count**0.5), count + 1) if math.gcd(s, count) == 1)
        rows = rows * stride % count  # they come class by class; the stride visits every example once
        return support.map(lambda tensor: tensor[rows])


class _Part:
    """A module whose learned parameters are read from the meta-parameters, where their names have a prefix."""

    def __init__(self, module: nn.Module, prefix: str) -> None:
        self._names = {name: prefix + name for name, value in module.named_parameters() if value.requires_grad}
        self._call = ModuleCall(module)

    def __call__(self, meta: Params, arguments: tuple[Any, ...]) -> Any:
        """Call the module with these arguments."""
        return self._call({name: meta[qualified] for name, qualified in self._names.items()}, arguments)


class GradientLearner(Learner, TakesSteps):
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
        inner_batch: number of support examples in each inner step, which cycle; None for all.
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
    ) -> None:
        super().__init__()
        if not proximal >= 0:
            raise UserError(f"algorithm.proximal={proximal}: at least 0")
        for key, value in (("steps", steps), ("eval_steps", eval_steps), ("inner_batch", inner_batch)):
            if value is not None and value < 1:
                raise UserError(f"algorithm.{key}={value}: at least 1")
        model = adapted.attach(model)
        names = adapted.names(model)
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
        self.task = GradientTask(
            FunctionalModel(model), names, head_init, loss, self.support_loss, self.augmentation, inner_batch
        )
        self.problem = InnerProblem(self.task, self.rule, objective.weights(steps, 0), steps, proximal)
        meta_gradient.check(self.problem)
        meta_gradient.check(replace(self.problem, weights=objective.weights(steps, _LATE)))
        if isinstance(meta_gradient, Displacement):
            self._check_displacement(names)
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

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; some inner iterates are kept for the adaptation curve."""
        if unlabelled is not None:
            raise UserError("gradient-based learners do not use unlabelled examples; take episode.unlabelled=0")
        meta = detached(self.meta_parameters())
        return adapt(self.task, self.problem, meta, support, self.eval_steps, self.over_tasks)

    def adapted_before(self, support: Examples, adapted: Params) -> Predictor:
        """See :meth:`TakesSteps.adapted_before`."""
        meta = detached(self.meta_parameters())
        return adapted_before(self.task, meta, support, adapted, self.eval_steps, self.over_tasks)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`."""
        weights = self.objective.weights(self.problem.steps, self.outer_step)
        problem = replace(self.problem, weights=weights, outer_step=self.outer_step)
        inputs = self._constant.tasks(tasks)
        with errors_name_the_fix():
            loss = self.meta_gradient.loss(problem, self.meta_parameters(), inputs, self.over_tasks)
        if self._observes and self.training:
            self._observe(tasks)
        return loss

    def _observe(self, tasks: Tasks) -> None:
        """Update running averages by one forward pass over the support sets, before adaptation."""
        flat = tasks.support.map(lambda tensor: tensor.flatten(0, 1))
        with torch.no_grad(), observing(self.model):
            self.model(*self.task.model.arguments(flat.x, flat.mask))
