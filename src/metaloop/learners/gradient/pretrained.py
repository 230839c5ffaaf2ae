"""Pretraining on the meta-training data, then fine-tuning on each task's support set."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import ClassVar

import torch
from torch import nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.head_init import HeadInit, Zero
from metaloop.inner.problem import InnerProblem
from metaloop.inner.rules.rule import InnerRule
from metaloop.inner.selection.adapted import HEAD, Adapted
from metaloop.learners.classification import logits_of_task_classes, losses_by_task, support_and_query
from metaloop.learners.gradient.adaptation import adapt, adapted_before
from metaloop.learners.gradient.augmentation import NoAugmentation
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.gradient_task import GradientTask, adapted_names, check_counts
from metaloop.learners.gradient.support_loss import MeanLoss
from metaloop.learners.gradient.support_order import Rotation, SupportOrder, batches
from metaloop.learners.learner import Learner, Predictor, Requirements, TakesSteps
from metaloop.models.adapter import as_model
from metaloop.models.cosine_head import CosineHead, resized
from metaloop.models.norm import norm_modes, observing
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks


class Pretrained(Learner, TakesSteps):
    """Pretraining baselines, which do not adapt to tasks in training.

    Classification: a head for all meta-training classes and the body are trained by cross-entropy. Each task then gets a new
    head, which is fine-tuned alone (Baseline, and with cosines Baseline++, of Chen et al. 2019, section 3.2) or with the body.
    Regression: one network is trained on all tasks and fine-tuned on each (the pretrained baseline of Finn et al. 2017,
    section 5.1).

    An outer step treats the support and query examples of a meta-batch as one batch. So a batch has equally many examples of
    each of its classes, while the papers draw single examples. All tasks have the same weight. Batch statistics are taken over
    a rank's share of the meta-batch.

    Args:
        model: the network; its head is the submodule ``head``, which in classification is a task's new head.
        loss: loss of one task.
        classes: number of meta-training classes; None for regression.
        adapted: selects the parameters that fine-tuning changes; in classification the head must be among them.
        rule: builds the rule from the adapted parameters. It must have no meta-parameters, since pretraining cannot learn them.
        head_init: how the head starts in each task. "learned" means the pretrained head in regression, and the same random
            numbers in every task in classification.
        over_tasks: how tasks are fine-tuned.
        eval_steps: number of fine-tuning steps; None with ``eval_passes``.
        inner_batch: number of support examples in each fine-tuning step; None for all.
        inner_order: order in which inner batches go through the support examples; None for a fixed rotation.
        cosine_scale: scale of cosine heads; None for linear heads.
        eval_passes: number of passes through the support set in fine-tuning, in batches of ``inner_batch``; None with
            ``eval_steps``.
        cosine_lengths: whether cosine heads learn a factor for each class, see :class:`CosineHead`.
    """

    requires: ClassVar[Requirements] = Requirements(classes=True)

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        classes: int | None,
        adapted: Adapted,
        rule: Callable[[Params], InnerRule],
        head_init: HeadInit,
        over_tasks: OverTasks,
        eval_steps: int | None = None,
        inner_batch: int | None = None,
        cosine_scale: float | None = None,
        inner_order: SupportOrder | None = None,
        eval_passes: int | None = None,
        cosine_lengths: bool = False,
    ) -> None:
        super().__init__()
        check_counts(eval_steps=eval_steps, eval_passes=eval_passes, inner_batch=inner_batch)
        if (eval_steps is None) == (eval_passes is None):
            raise UserError(
                f"algorithm.eval_steps={eval_steps} and algorithm.eval_passes={eval_passes}: give one and null for the other"
            )
        classifies = loss.of_classes
        _check_classes(classifies, classes, cosine_scale, head_init)
        model = adapted.attach(model if cosine_scale is None else _with_cosine_head(model, cosine_scale, cosine_lengths))
        names = adapted_names(adapted, model)
        start = {name: model.get_parameter(name).detach() for name in names}
        head_init.check(start)
        self.model = model
        self.classes_head = _classes_head(model, names, classes) if classifies and classes is not None else None
        self.rule = rule(start)
        if any(True for _ in self.rule.parameters()):
            raise UserError(
                "algorithm.rule has meta-parameters, which pretraining does not learn; take algorithm/rule=gradient_descent"
            )
        self.over_tasks = over_tasks
        self._steps, self._passes = eval_steps, eval_passes
        self.loss = loss
        self._network = FunctionalModel(model)
        parts = MeanLoss(), NoAugmentation(), inner_batch, inner_order or Rotation()
        self.task = GradientTask(self._network, names, head_init, loss, *parts)
        self.problem = InnerProblem(self.task, self.rule, (0.0, 1.0), steps=1)  # adaptation alone, see steps_for

    @property
    def transductive(self) -> bool:
        """Whether a query's answer depends on the other queries: true with batch statistics."""
        return "batch" in norm_modes(self.model)

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; the new head answers a fixed number of classes."""
        head_ways = len(self.model.get_parameter("head.weight"))
        if ways > head_ways and self.classes_head is not None:
            raise UserError(
                f"episode.ways={ways}: a task's head was made for {head_ways} ways and cannot answer more; train with "
                f"episode.train.ways={ways}"
            )

    def steps_for(self, examples: int) -> int:
        """See :meth:`TakesSteps.steps_for`."""
        if self._passes is None:
            assert self._steps is not None
            return self._steps
        return self._passes * batches(examples, self.task.inner_batch)

    def values(self) -> Params:
        """See :meth:`TakesSteps.values`."""
        return detached({name: value for name, value in self.named_parameters() if value.requires_grad})

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`."""
        if unlabelled is not None:
            raise UserError("pretrained learners do not use unlabelled examples; take episode.unlabelled=0")
        return adapt(self.task, self.problem, self.values(), support, self.steps_for(support.y.shape[1]), self.over_tasks)

    def adapted_before(self, support: Examples, adapted: Params) -> Predictor:
        """See :meth:`TakesSteps.adapted_before`."""
        steps = self.steps_for(support.y.shape[1])
        return adapted_before(self.task, self.values(), support, adapted, steps, self.over_tasks)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """Compute the mean loss of support and query examples without adaptation.

        In classification ``query_logits`` are those of each task's classes.
        """
        shots = tasks.support.y.shape[1]
        examples = support_and_query(tasks, by_split=self.classes_head is not None)
        flat = examples.map(lambda tensor: tensor.flatten(0, 1))
        head = {} if self.classes_head is None else {HEAD + name: value for name, value in self.classes_head.named_parameters()}
        with observing(self.model) if self.training else nullcontext():
            outputs = self._network.outputs({}, head, flat.x, flat.mask)
        losses = losses_by_task(self.loss, outputs, examples)
        answers = torch.unflatten(outputs, 0, examples.y.shape[:2])[:, shots:]
        answers = answers if self.classes_head is None else logits_of_task_classes(answers, tasks)
        return OuterLoss(losses.mean(), answers.detach(), losses.detach()[:, None])


def _check_classes(classifies: bool, classes: int | None, cosine_scale: float | None, head_init: HeadInit) -> None:
    """Raise a UserError if the task, the number of classes and the head do not fit together."""
    if classifies and classes is None:
        raise UserError(
            "dataset: it has no num_classes, which pretraining a classifier needs; take a data set that numbers its classes"
        )
    if cosine_scale is None:
        return
    if not classifies:
        raise UserError(f"algorithm.cosine_scale={cosine_scale}: cosine heads are for classification; for regression take null")
    if not cosine_scale > 0:
        raise UserError(f"algorithm.cosine_scale={cosine_scale}: above 0, or null for a linear head")
    if isinstance(head_init, Zero):
        raise UserError(
            "algorithm.head_init=zero: a zero class vector has no cosine; take another head_init, or cosine_scale=null"
        )


def _linear_head(model: nn.Module) -> nn.Linear:
    contract = as_model(model)
    if contract.linear_head is None:
        raise UserError(f"model: pretraining needs a linear submodule head; this model's is {type(contract.head).__name__}")
    return contract.linear_head


def _with_cosine_head(model: nn.Module, scale: float, lengths: bool) -> nn.Module:
    head = _linear_head(model)
    model.register_module("head", CosineHead(head.in_features, head.out_features, scale, lengths=lengths).to(head.weight))
    return model


def _classes_head(model: nn.Module, names: Sequence[str], classes: int) -> nn.Module:
    """Make a head for all meta-training classes like the model's head, and freeze the latter, which only tasks learn."""
    if not set(names) >= {name for name, _ in model.named_parameters() if name.startswith(HEAD)}:
        raise UserError("algorithm.adapted: the classes of a task are new, so the whole head must adapt; take head or all")
    head = _linear_head(model).requires_grad_(requires_grad=False)
    return resized(head, classes)
