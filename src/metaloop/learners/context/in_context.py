"""In-context learners: a network reads a task's support set and answers its queries, without inner gradient steps."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.module_call import ModuleCall
from metaloop.learners.context.bar_distribution import BarDistribution
from metaloop.learners.context.reader import Reader
from metaloop.learners.gradient.functional_model import FunctionalModel, joined_masks
from metaloop.learners.learner import Learner, Predictor, PureOuterStep, Requirements
from metaloop.learners.one_go import outer_loss, predictor
from metaloop.models.adapter import as_model
from metaloop.models.norm import norm_modes
from metaloop.problems.task_loss import NegativeLogLikelihood, TaskLoss, mean_over_real, without_absent_classes
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

TARGETS = ("query", "all")
_READER = "reader."


class InContext(Learner, PureOuterStep):
    """An embedding and a :class:`~metaloop.learners.context.reader.Reader` over (embedding, label) pairs of the support set.

    With ``gaussian`` and regression it is a neural process: it predicts a normal distribution of every target and is trained by
    the negative log-likelihood (Garnelo et al. 2018, equation 4). No reader has a latent variable.

    Each query is answered from the support set alone, so the learner is transductive only if the model uses batch statistics.

    Args:
        model: the embedding, without a head. Its attribute ``features`` is the number of features.
        loss: loss of one task.
        outputs: the highest ways that a task can have, or the target's size.
        reader: builds the reader from the sizes ``features``, ``labels`` (of an encoded label: the highest ways, or the
            target's size) and ``outputs`` (of an answer).
        over_tasks: how per-task functions are run.
        gaussian: in regression, answer a mean and a standard deviation. Classification ignores it.
        floor: lowest standard deviation, at least 0 and below 1: it is ``floor + (1 - floor) softplus(output)``. It is 0.1 in
            the code of Garnelo et al. 2018 and Kim et al. 2019.
        targets: which examples the training loss averages over: "query", or "all", the support's, too, as in that code.
        bars: in regression to one number, the number of bars of a :class:`BarDistribution`, which is trained by its
            log-likelihood; the reader sees the bar of a target, and answers are mean and standard deviation. 0 for none.
            Classification ignores it.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, outputs=True)
    embedding: FunctionalModel

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        outputs: int,
        reader: Callable[..., Reader],
        over_tasks: OverTasks,
        *,
        gaussian: bool,
        floor: float = 0.01,
        targets: str = "query",
        bars: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= floor < 1:
            raise UserError(f"algorithm.floor={floor}: at least 0 and below 1")
        if targets not in TARGETS:
            raise UserError(f"algorithm.targets={targets!r}: one of {', '.join(TARGETS)}")
        if bars == 1 or bars < 0:
            raise UserError(f"algorithm.bars={bars}: 0, or at least 2")
        if "running" in norm_modes(model):
            raise UserError("model.norm=running: in-context learners do not support it; take batch, support or group")
        self.classifies = loss.of_classes
        self.bars = 0 if self.classifies else bars
        if self.bars and (outputs != 1 or targets != "query"):
            raise UserError(f"algorithm.bars={bars}: needs targets of one number and algorithm.targets=query")
        self.gaussian = gaussian and not self.classifies and not self.bars
        self.floor = floor
        self.targets = targets
        self.outputs = outputs
        self.model = model
        self.loss: TaskLoss = NegativeLogLikelihood() if self.gaussian else loss
        labels, answers = self.bars or outputs, self.bars or outputs * (2 if self.gaussian else 1)
        self.reader = reader(features=_feature_count(model), labels=labels, outputs=answers)
        self._read = ModuleCall(self.reader)
        self.over_tasks = over_tasks
        self.embedding = FunctionalModel(model)

    @property
    def transductive(self) -> bool:
        """Whether a query's answer depends on the other queries: true with batch statistics."""
        return "batch" in norm_modes(self.model)

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; the reader's labels encode a fixed number of classes."""
        if self.classifies and ways < 2:
            raise UserError(f"episode.ways={ways}: classification needs at least 2")
        if self.classifies and ways > self.outputs:
            raise UserError(
                f"episode.ways={ways}: the reader's labels were made for {self.outputs} ways; train with "
                f"episode.train.ways={ways}"
            )
        self.reader.check(classifies=self.classifies)

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; there are no inner steps, so there is one iterate."""
        if unlabelled is not None:
            raise UserError("in-context learners do not use unlabelled examples; take episode.unlabelled=0")
        meta = {name: value.detach() for name, value in self.named_parameters()}
        return predictor(self._answers, meta, support, self.over_tasks)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`."""
        meta = dict(self.named_parameters())
        gradients, per_task = self.outer_gradient(meta, tasks, self.over_tasks)
        return outer_loss(meta, gradients, per_task)

    def phase(self, outer_step: int) -> Hashable | None:
        """See :meth:`PureOuterStep.phase`; all outer steps are alike."""
        return "always"

    def outer_gradient(self, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`PureOuterStep.outer_gradient`."""
        return over_tasks.mean_gradient(self._task_loss, meta, tasks)

    def _task_loss(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        features = self.embedding.outputs(meta, {}, support.x, support.mask)
        queries = self.embedding.query_outputs(meta, {}, support, query.x, query.mask)
        if self.bars:
            bars, logits = self._bars(support), self._outputs(meta, support, features, queries)
            loss = mean_over_real(bars.negative_log_density(logits, query.y[:, 0]), query.mask)
            return loss, {"loss": loss, "answers": bars.moments(logits)[:, None]}
        if self.targets == "query":
            answers = self._read_support(meta, support, features, queries)
            loss = self.loss(answers, query)
            return loss, {"loss": loss, "answers": answers}
        answers = self._read_support(meta, support, features, torch.cat([features, queries]))
        mask = joined_masks([support.mask, query.mask], [len(features), len(queries)])
        loss = self.loss(answers, replace(query, y=torch.cat([support.y, query.y]), mask=mask))
        return loss, {"loss": loss, "answers": answers[len(features) :]}

    def _answers(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """Answer one task's queries: (queries, ways), (queries, *target) or (queries, *target, 2)."""
        features = self.embedding.outputs(meta, {}, support.x, support.mask)
        return self._read_support(meta, support, features, self.embedding.query_outputs(meta, {}, support, x, mask))

    def _read_support(self, meta: Params, support: Examples, features: Tensor, queries: Tensor) -> Tensor:
        """Answer ``queries`` (queries, features) from the support's ``features`` (examples, features)."""
        outputs = self._outputs(meta, support, features, queries)
        if self.bars:
            return self._bars(support).moments(outputs)[:, None]
        if self.classifies:
            return without_absent_classes(outputs, support)
        target = support.y.shape[1:]
        if not self.gaussian:
            return torch.unflatten(outputs, 1, target) if len(target) != 1 else outputs
        mean, spread = outputs.chunk(2, -1)
        deviation = self.floor + (1 - self.floor) * F.softplus(spread)
        return torch.unflatten(torch.stack([mean, deviation], -1), 1, target)

    def _outputs(self, meta: Params, support: Examples, features: Tensor, queries: Tensor) -> Tensor:
        """What the reader puts out for ``queries``, (queries, outputs); arguments as for :meth:`_read_support`."""
        real = _real(support)
        labels = self._labels(support, features) * real[:, None]
        parameters = {name.removeprefix(_READER): value for name, value in meta.items() if name.startswith(_READER)}
        arguments = (features * real[:, None], labels, real, queries, support.number)
        outputs: Tensor = self._read(parameters, arguments)
        return outputs

    def distribution(self, support: Examples, x: Tensor) -> tuple[BarDistribution, Tensor]:
        """The bars of one task and the logits (queries, bars) of its queries ``x``, for a learner with bars.

        Raises:
            UserError: the learner has none.
        """
        if not self.bars:
            raise UserError("the run has no bars, so it predicts no quantiles: train a regression with algorithm.bars=10")
        meta = {name: value.detach() for name, value in self.named_parameters()}
        features = self.embedding.outputs(meta, {}, support.x, support.mask)
        queries = self.embedding.query_outputs(meta, {}, support, x, None)
        return self._bars(support), self._outputs(meta, support, features, queries)

    def _bars(self, support: Examples) -> BarDistribution:
        return BarDistribution.of(support.y[:, 0], _real(support), self.bars)

    def _labels(self, support: Examples, features: Tensor) -> Tensor:
        """Encode the labels, (examples, labels): classes and bars as one-hot vectors, other targets as they are."""
        if self.bars:
            return self._bars(support).places(support.y[:, 0]).to(features.dtype)
        if not self.classifies:
            return support.y.flatten(1).to(features.dtype)
        ways = torch.arange(self.outputs, device=support.y.device)
        return (support.y[:, None] == ways).to(features.dtype)


def _real(support: Examples) -> Tensor:
    """Which examples are real, (examples,) bool."""
    return torch.ones(len(support.y), dtype=torch.bool, device=support.y.device) if support.mask is None else support.mask


def _feature_count(model: nn.Module) -> int:
    count = as_model(model).features
    if count is None:
        raise UserError(
            f"model: in-context learners need its attribute features, the number of features; {type(model).__name__} has none"
        )
    return count
