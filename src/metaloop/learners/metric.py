"""Metric learners: an embedding and a comparison of queries with the support set."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.over_tasks import OverTasks, Tree, pack, unpack, with_gradient
from metaloop.learners.comparison import Comparison, Embedding
from metaloop.learners.functional_model import FunctionalModel
from metaloop.learners.learner import Learner, Predictor
from metaloop.learners.task_loss import TaskLoss, without_absent_classes
from metaloop.learners.transform import Transform, Unchanged
from metaloop.models.norm import norm_mode
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

_COMPARISON = "comparison."


class Metric(Learner):
    """Embeds support and queries, and compares them: prototypes and all their kin.

    Any ways can be tested, whatever was trained (Snell et al. 2017, section 2.6, train with more).

    Args:
        model: the embedding, without a head.
        loss: of one task.
        comparison: from features to logits; or what builds it from what the embedding answers.
        over_tasks: how per-task functions are run.
        transform: what is done to features before they are compared; None for nothing.
    """

    needs_head: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        comparison: Comparison | Callable[[Embedding], Comparison],
        over_tasks: OverTasks,
        transform: Transform | None = None,
    ) -> None:
        super().__init__()
        if "running" in norm_mode(model):
            raise UserError(
                "model.norm=running is for gradient-based learners; with metric learners take batch, support or group"
            )
        self.model = model
        self.loss = loss
        self.comparison = comparison if isinstance(comparison, Comparison) else comparison(_embedding(model))
        self.over_tasks = over_tasks
        self.transform = transform or Unchanged()
        self.embedding = FunctionalModel(model)

    @property
    def transductive(self) -> bool:
        """Batch statistics make every query depend on the others, and some comparisons do."""
        return "batch" in norm_mode(self.model) or self.comparison.transductive

    def check(self, ways: int) -> None:
        """One class has nothing to be compared with."""
        if ways < 2:
            raise UserError(
                f"metric learners classify; episode.ways={ways} needs at least 2 (for regression take algorithm=maml)"
            )

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; adaptation takes one go, so there is one iterate."""
        if unlabelled is not None and not self.comparison.uses_unlabelled:
            raise UserError(
                f"algorithm.comparison: {type(self.comparison).__name__} does not use unlabelled examples; take another "
                f"algorithm, or episodes without"
            )
        meta = {name: value.detach() for name, value in self.named_parameters()}

        def answer(x: Inputs, mask: Tensor | None) -> Tensor:
            def one(tree: Tree, autodiff: Autodiff) -> Tree:
                task = unpack(tree["support"], support.ways)
                return {"logits": self._logits(meta, task, tree["x"], tree.get("mask"), tree.get("unlabelled"))}

            trees: Tree = {"support": pack(support), "x": x}
            given = {"mask": mask, "unlabelled": unlabelled}
            with torch.no_grad():
                return self.over_tasks.map(one, trees | {n: v for n, v in given.items() if v is not None})["logits"]

        return Predictor([answer])

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`."""
        meta = dict(self.named_parameters())
        gradients, aside = self.over_tasks.mean_gradient(self._task_loss, meta, tasks)
        value = with_gradient(aside["loss"].mean(), meta, gradients) if torch.is_grad_enabled() else aside["loss"].mean()
        return OuterLoss(value, aside["logits"], aside["loss"][:, None])

    def _task_loss(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        logits = self._logits(meta, support, query.x, query.mask, None)
        loss = self.loss(logits, query)
        return loss, {"loss": loss, "logits": logits}

    def _logits(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None, unlabelled: Inputs | None) -> Tensor:
        """(queries, ways) of one task."""
        features = self.transform(self.embedding.outputs(meta, {}, support.x, support.mask))
        queries = self.transform(self.embedding.query_outputs(meta, {}, support, x, mask))
        more = None
        if unlabelled is not None:
            more = self.transform(self.embedding.query_outputs(meta, {}, support, unlabelled, None))
        own = {name.removeprefix(_COMPARISON): value for name, value in meta.items() if name.startswith(_COMPARISON)}
        logits = functional_call(self.comparison, own, (features, support, queries), {"query_mask": mask, "unlabelled": more})
        return without_absent_classes(logits, support)


def _embedding(model: nn.Module) -> Embedding:
    """What the model answers."""
    features = getattr(model, "features", None)
    if not isinstance(features, int):
        raise UserError(
            "model: this comparison has parameters of the features' size; give the model an attribute features, their number"
        )
    return Embedding((features,))
