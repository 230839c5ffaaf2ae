"""Metric learners: an embedding and a comparison of queries with the support set."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff, Eager
from metaloop.inner.execution.over_tasks import Loop, OverTasks
from metaloop.learners.classification import losses_by_task, of_own_classes, together
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


class Metric(Learner):
    """Embeds support and queries, and compares them: prototypes and all their kin.

    Any ways can be tested, whatever was trained (Snell et al. 2017, section 2.6, train with more).

    In outer steps that classify (see :class:`Regime`), a linear head on the embedding names all meta-training classes, and
    support and query examples are one batch; nothing is compared, so the comparison's parameters rest, as that head's do in
    episodes.

    Args:
        model: the embedding, without a head.
        loss: of one task.
        comparison: from features to logits; or what builds it from what the embedding answers.
        over_tasks: how per-task functions are run.
        transform: what is done to features before they are compared, or what builds it; None for nothing.
        regime: what it is trained with; None for episodes.
        classes: of meta-training; None where they are not numbered, which classification needs.
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
        answered = Embedding(contract.features, contract.map_shape)
        self.model = model
        self.loss = loss
        self.comparison = comparison if isinstance(comparison, Comparison) else comparison(answered)
        self.over_tasks = over_tasks
        made = Unchanged() if transform is None else transform
        self.transform = made if isinstance(made, Transform) else made(answered)
        self.regime = regime or Regime()
        if self.transform.observes and not self.regime.learns:
            raise UserError(
                f"algorithm.transform: {type(self.transform).__name__} needs the mean of meta-training's features, and with "
                f"algorithm/regime=none there is none; take algorithm/transform=unit_length or none, or another regime"
            )
        if self.comparison.maps:
            _check_maps(answered, self.transform)
        self._observes = "running" in norm_modes(model)
        self.classes_head = _classes_head(answered, self.comparison.maps, classes) if self.regime.ever else None
        self.uses_unlabelled = self.comparison.uses_unlabelled
        self.embedding = FunctionalModel(model, maps=self.comparison.maps)
        self.learns = self.regime.learns
        if not self.learns and not any(True for _ in self.parameters()):
            self.idle = nn.Parameter(torch.zeros(()))  # the one outer step of a run needs something to pass over

    @property
    def transductive(self) -> bool:
        """Batch statistics make every query depend on the others, and some comparisons do."""
        return "batch" in norm_modes(self.model) or self.comparison.transductive

    def check(self, ways: int) -> None:
        """One class has nothing to be compared with."""
        if ways < 2:
            raise UserError(f"metric learners classify; episode.ways={ways} needs at least 2 (regression: algorithm=maml)")

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; adaptation takes one go, so there is one iterate."""
        if unlabelled is not None and not self.uses_unlabelled:
            raise UserError(
                f"algorithm.comparison: {type(self.comparison).__name__} does not use unlabelled examples; take another "
                f"algorithm, or episodes without"
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
            gradients, aside = Eager().value_and_gradient(lambda at: self._classification(at, tasks), meta)
        elif self._observes and self.training and self.learns:
            with observing(self.model):  # each task moves the running averages, which no vmap can do
                gradients, aside = Loop().mean_gradient(self._task_loss, meta, tasks)
        else:
            gradients, aside = self.over_tasks.mean_gradient(self._task_loss, meta, tasks)
        if not self.learns:
            gradients = {name: torch.zeros_like(value) for name, value in gradients.items()}
        if self.training:
            self.transform.observe(aside["mean"].mean(0))
        rests = _COMPARISON if classifies else _CLASSES_HEAD
        return outer_loss(meta, gradients, aside, frozenset(name for name in meta if name.startswith(rests)))

    def _answers(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        features, queries, more = self._features(meta, support, x, mask)
        return self._logits(meta, support, features, queries, mask, more)

    def _task_loss(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        features, queries, more = self._features(meta, support, query.x, query.mask)
        logits = self._logits(meta, support, features, queries, query.mask, more)
        loss = self.loss(logits, query)
        if isinstance(self.comparison, AuxiliaryLoss):
            compared = (self.transform(features), support, self.transform(queries), query)
            loss = loss + functional_call(_Auxiliary(self.comparison), _own(meta), compared)
        return loss, {"loss": loss, "answers": logits, "mean": _mean_feature(features, support.mask)}

    def _classification(self, meta: Params, tasks: Tasks) -> tuple[Tensor, Params]:
        """The mean loss of naming all classes of meta-training; ``answers`` are those of a task's own classes."""
        examples = together(tasks, by_split=True)
        flat = examples.map(lambda tensor: tensor.flatten(0, 1))
        with observing(self.model) if self.training else nullcontext():
            features = self.embedding.outputs(meta, {}, flat.x, flat.mask).flatten(1)
        outputs = F.linear(features, meta["classes_head.weight"], meta["classes_head.bias"])
        losses = losses_by_task(self.loss, outputs, examples)
        answers = outputs.unflatten(0, examples.y.shape[:2])[:, tasks.support.y.shape[1] :]
        mean = _mean_feature(features, flat.mask)[None]
        return losses.mean(), {"loss": losses, "answers": of_own_classes(answers, tasks), "mean": mean}

    def _features(
        self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One task's support, query and unlabelled features, as the model answers them.

        Where running averages are learned, they are normalised as one batch (as in the code of Snell et al. 2017).
        """
        shown = support.unlabelled if self.uses_unlabelled else None
        if self._observes and self.training:
            return self._as_one_batch(meta, support, x, mask, shown)
        features = self.embedding.outputs(meta, {}, support.x, support.mask)
        queries = self.embedding.query_outputs(meta, {}, support, x, mask)
        more = None
        if shown is not None:
            more = self.embedding.query_outputs(meta, {}, support, shown, support.unlabelled_mask)
        return features, queries, more

    def _as_one_batch(
        self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None, shown: Inputs | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """As :meth:`_features`, from one call of the model; padding counts in no statistics."""
        inputs, masks = [support.x, x], [support.mask, mask]
        if shown is not None:
            inputs, masks = [*inputs, shown], [*masks, support.unlabelled_mask]
        sizes = [count(each) for each in inputs]
        features = self.embedding.outputs(meta, {}, reduce(joined, inputs), joined_masks(masks, sizes)).split(sizes)
        return features[0], features[1], features[2] if shown is not None else None

    def _logits(
        self, meta: Params, support: Examples, features: Tensor, queries: Tensor, mask: Tensor | None, more: Tensor | None
    ) -> Tensor:
        """(queries, ways) of one task, from its support, query and unlabelled features."""
        own = {name.removeprefix(_COMPARISON): value for name, value in _own(meta).items()}
        arguments = (self.transform(features), support, self.transform(queries))
        known = {"query_mask": mask, "unlabelled": None if more is None else self.transform(more)}
        return without_absent_classes(functional_call(self.comparison, own, arguments, known), support)


class _Auxiliary(nn.Module):
    """A comparison's auxiliary loss as what is called, so that it can be called with parameters from outside."""

    def __init__(self, comparison: nn.Module) -> None:
        super().__init__()
        self.comparison = comparison

    def forward(self, support: Tensor, labels: Examples, query: Tensor, asked: Examples) -> Tensor:
        assert isinstance(self.comparison, AuxiliaryLoss)
        return self.comparison.auxiliary_loss(support, labels, query, asked)


def _own(meta: Params) -> dict[str, Tensor]:
    """The comparison's meta-parameters."""
    return {name: value for name, value in meta.items() if name.startswith(_COMPARISON)}


def _mean_feature(features: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of the real examples' features (examples, *features)."""
    if mask is None:
        return features.mean(0)
    weight = mask.to(features.dtype)
    return torch.tensordot(weight / weight.sum().clamp(min=1), features, 1)


def _check_maps(answered: Embedding, transform: Transform) -> None:
    """Raise a UserError unless the model can answer feature maps, and they are compared as they are."""
    answered.maps()
    if not isinstance(transform, Unchanged):
        raise UserError("algorithm.transform: feature maps are compared as they are; take algorithm/transform=none")


def _classes_head(answered: Embedding, maps: bool, classes: int | None) -> nn.Linear:
    """A linear head for all classes of meta-training."""
    if classes is None:
        raise UserError(
            "dataset: it has no numbered classes (num_classes), which training by classification needs; take another, or "
            "algorithm/regime=episodic where it has classes without numbers"
        )
    return nn.Linear(torch.Size(answered.maps()).numel() if maps else answered.width(), classes)
