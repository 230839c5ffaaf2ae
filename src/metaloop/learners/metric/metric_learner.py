"""Metric learners: an embedding, and a comparison of queries with the support set."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff, Eager
from metaloop.inner.execution.over_tasks import Loop, OverTasks
from metaloop.inner.module_call import ModuleCall
from metaloop.learners.classification import logits_of_task_classes, losses_by_task, support_and_query
from metaloop.learners.gradient.functional_model import FunctionalModel, count, joined, joined_masks
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.learners.metric.comparison import AuxiliaryLoss, Comparison, Embedding
from metaloop.learners.metric.regime import Regime
from metaloop.learners.metric.transform import Transform, Unchanged
from metaloop.learners.one_go import outer_loss, predictor
from metaloop.models.adapter import as_model
from metaloop.models.norm import norm_modes, observing
from metaloop.problems.task_loss import TaskLoss, without_absent_classes
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

_COMPARISON, _CLASSES_HEAD = "comparison.", "classes_head."


class MetricLearner(Learner):
    """A learner that embeds support and queries and compares them, such as prototypical networks.

    Episodes of any ways can be tested, whatever it was trained with (Snell et al. 2017, section 2.6, train with more).

    In outer steps that classify (see :class:`Regime`), a linear head on the embedding is trained on all meta-training classes,
    with support and query examples as one batch. The comparison's parameters get no update in these steps, and the head's get
    none in episodes.

    Args:
        model: the embedding, without a head.
        loss: loss of one task.
        comparison: maps features to logits; or a function that builds it from the embedding's output size.
        over_tasks: how per-task functions are run.
        transform: changes features before they are compared; or a function that builds it from the embedding's output size.
            None for no change.
        regime: when it trains by episodes and when by classification; None for episodes only.
        classes: number of meta-training classes, which classification needs; None if they are not numbered.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, classes=True)
    embedding: FunctionalModel

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        comparison: Comparison | Callable[[Embedding], Comparison],
        over_tasks: OverTasks,
        transform: Transform | Callable[[Embedding], Transform] | None = None,
        regime: Regime | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        contract = as_model(model)
        size = Embedding(contract.features, contract.map_shape)
        self.model = model
        self.loss = loss
        self.comparison = comparison if isinstance(comparison, Comparison) else comparison(size)
        self._compare = ModuleCall(self.comparison)
        self._auxiliary = ModuleCall(_Auxiliary(self.comparison)) if isinstance(self.comparison, AuxiliaryLoss) else None
        self.over_tasks = over_tasks
        transform = Unchanged() if transform is None else transform
        self.transform = transform if isinstance(transform, Transform) else transform(size)
        self.regime = regime or Regime()
        if self.transform.observes and not self.regime.learns:
            raise UserError(
                f"algorithm.transform: {type(self.transform).__name__} needs the mean of the meta-training features, but with "
                f"algorithm/regime=none nothing is trained; take algorithm/transform=unit_length or none, or another regime"
            )
        if self.comparison.maps:
            _check_maps(size, self.transform)
        self._observes = "running" in norm_modes(model)
        self.classes_head = _classes_head(size, self.comparison.maps, classes) if self.regime.ever else None
        self.uses_unlabelled = self.comparison.uses_unlabelled
        self.embedding = FunctionalModel(model, maps=self.comparison.maps)
        self.learns = self.regime.learns
        if not self.learns and not any(True for _ in self.parameters()):
            self.idle = nn.Parameter(torch.zeros(()))  # the optimizer of the one outer step needs a parameter

    @property
    def transductive(self) -> bool:
        """Whether a query's answer depends on the other queries: with batch statistics, or by the comparison."""
        return "batch" in norm_modes(self.model) or self.comparison.transductive

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; a comparison needs at least two classes."""
        if ways < 2:
            raise UserError(
                f"episode.ways={ways}: metric learners classify and need at least 2; for regression take algorithm=maml"
            )

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; there are no inner steps, so there is one iterate."""
        if unlabelled is not None and not self.uses_unlabelled:
            raise UserError(
                f"algorithm.comparison: {type(self.comparison).__name__} does not use unlabelled examples; take "
                f"algorithm=soft_kmeans, or episode.unlabelled=0"
            )
        if unlabelled is not None:
            support = replace(support, unlabelled=unlabelled, unlabelled_mask=None)
        meta = {name: value.detach() for name, value in self.named_parameters()}
        return predictor(self._answers, meta, support, self.over_tasks)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`."""
        meta = dict(self.named_parameters())
        classifies = self.regime.classifies(self.outer_step)
        if classifies:
            gradients, per_task = Eager().value_and_gradient(lambda at: self._classification(at, tasks), meta)
        elif self._observes and self.training and self.learns:
            with observing(self.model):  # each task updates the running averages, which vmap cannot do
                gradients, per_task = Loop().mean_gradient(self._task_loss, meta, tasks)
        else:
            gradients, per_task = self.over_tasks.mean_gradient(self._task_loss, meta, tasks)
        if not self.learns:
            gradients = {name: torch.zeros_like(value) for name, value in gradients.items()}
        if self.training:
            self.transform.observe(per_task["mean"].mean(0))
        resting = _COMPARISON if classifies else _CLASSES_HEAD
        return outer_loss(meta, gradients, per_task, frozenset(name for name in meta if name.startswith(resting)))

    def _answers(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        features, queries, unlabelled = self._features(meta, support, x, mask)
        return self._logits(meta, support, features, queries, mask, unlabelled)

    def _task_loss(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        features, queries, unlabelled = self._features(meta, support, query.x, query.mask)
        logits = self._logits(meta, support, features, queries, query.mask, unlabelled)
        loss = self.loss(logits, query)
        if self._auxiliary is not None:
            arguments = (self.transform(features), support, self.transform(queries), query)
            loss = loss + self._auxiliary(_comparison_parameters(meta), arguments)
        return loss, {"loss": loss, "answers": logits, "mean": _mean_feature(features, support.mask)}

    def _classification(self, meta: Params, tasks: Tasks) -> tuple[Tensor, Params]:
        """Compute the mean loss over all meta-training classes; ``answers`` are the logits of the task's classes."""
        examples = support_and_query(tasks, by_split=True)
        flat = examples.map(lambda tensor: tensor.flatten(0, 1))
        with observing(self.model) if self.training else nullcontext():
            features = self.embedding.outputs(meta, {}, flat.x, flat.mask).flatten(1)
        outputs = F.linear(features, meta["classes_head.weight"], meta["classes_head.bias"])
        losses = losses_by_task(self.loss, outputs, examples)
        answers = torch.unflatten(outputs, 0, examples.y.shape[:2])[:, tasks.support.y.shape[1] :]
        mean = _mean_feature(features, flat.mask)[None]
        return losses.mean(), {"loss": losses, "answers": logits_of_task_classes(answers, tasks), "mean": mean}

    def _features(
        self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute one task's support, query and unlabelled features, before the transform.

        If running averages are being updated, all are normalised as one batch (as in the code of Snell et al. 2017).
        """
        inputs = support.unlabelled if self.uses_unlabelled else None
        if self._observes and self.training:
            return self._as_one_batch(meta, support, x, mask, inputs)
        features = self.embedding.outputs(meta, {}, support.x, support.mask)
        queries = self.embedding.query_outputs(meta, {}, support, x, mask)
        unlabelled = None
        if inputs is not None:
            unlabelled = self.embedding.query_outputs(meta, {}, support, inputs, support.unlabelled_mask)
        return features, queries, unlabelled

    def _as_one_batch(
        self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None, unlabelled: Inputs | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute :meth:`_features` by one call of the model; padding does not count in the statistics."""
        inputs, masks = [support.x, x], [support.mask, mask]
        if unlabelled is not None:
            inputs, masks = [*inputs, unlabelled], [*masks, support.unlabelled_mask]
        sizes = [count(each) for each in inputs]
        embedded = self.embedding.outputs(meta, {}, reduce(joined, inputs), joined_masks(masks, sizes))
        features = torch.split(embedded, sizes)
        return features[0], features[1], features[2] if unlabelled is not None else None

    def _logits(
        self,
        meta: Params,
        support: Examples,
        features: Tensor,
        queries: Tensor,
        mask: Tensor | None,
        unlabelled: Tensor | None,
    ) -> Tensor:
        """Compute one task's logits (queries, ways) from its support, query and unlabelled features."""
        parameters = {name.removeprefix(_COMPARISON): value for name, value in _comparison_parameters(meta).items()}
        arguments = (self.transform(features), support, self.transform(queries))
        keywords = {"query_mask": mask, "unlabelled": None if unlabelled is None else self.transform(unlabelled)}
        return without_absent_classes(self._compare(parameters, arguments, keywords), support)


class _Auxiliary(nn.Module):
    """A module whose ``forward`` is a comparison's auxiliary loss, since :class:`ModuleCall` calls ``forward``."""

    def __init__(self, comparison: nn.Module) -> None:
        super().__init__()
        self.comparison = comparison

    def forward(self, support: Tensor, labels: Examples, query: Tensor, query_labels: Examples) -> Tensor:
        assert isinstance(self.comparison, AuxiliaryLoss)
        return self.comparison.auxiliary_loss(support, labels, query, query_labels)


def _comparison_parameters(meta: Params) -> dict[str, Tensor]:
    """Select the comparison's meta-parameters."""
    return {name: value for name, value in meta.items() if name.startswith(_COMPARISON)}


def _mean_feature(features: Tensor, mask: Tensor | None) -> Tensor:
    """Average the features (examples, *features) of real examples."""
    if mask is None:
        return features.mean(0)
    weight = mask.to(features.dtype)
    mean: Tensor = torch.tensordot(weight / weight.sum().clamp(min=1), features, 1)
    return mean


def _check_maps(size: Embedding, transform: Transform) -> None:
    """Raise a UserError unless the model has feature maps and there is no transform."""
    size.maps()
    if not isinstance(transform, Unchanged):
        raise UserError(
            f"algorithm.transform={type(transform).__name__} does not apply to feature maps; take algorithm/transform=none"
        )


def _classes_head(size: Embedding, maps: bool, classes: int | None) -> nn.Linear:
    """Make a linear head for all meta-training classes."""
    if classes is None:
        raise UserError(
            "dataset: it has no num_classes, which training by classification needs; take algorithm/regime=episodic, or a data "
            "set that numbers its classes"
        )
    return nn.Linear(torch.Size(size.maps()).numel() if maps else size.width(), classes)
