"""Prototypical networks."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.over_tasks import OverTasks, Tree, pack, unpack, with_gradient
from metaloop.learners.functional_model import FunctionalModel
from metaloop.learners.learner import Learner, Predictor
from metaloop.learners.task_loss import TaskLoss, without_absent_classes
from metaloop.models.norm import norm_mode
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks


class Prototypes(Learner):
    """Classes are the means of their support embeddings; queries go to the nearest (Snell et al. 2017, equations 1 and 2).

    Logits are negative squared Euclidean distances. Any ways can be tested, whatever was trained.

    Args:
        model: the embedding, without a head.
        loss: of one task.
        over_tasks: how per-task functions are run.
    """

    needs_head: ClassVar[bool] = False

    def __init__(self, model: nn.Module, loss: TaskLoss, over_tasks: OverTasks) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.over_tasks = over_tasks
        self.embedding = FunctionalModel(model)
        if "running" in norm_mode(model):
            raise UserError(
                "model.norm=running is for gradient-based learners; with algorithm=prototypes take batch, support or group"
            )

    @property
    def transductive(self) -> bool:
        """Batch statistics make every query depend on the others."""
        return "batch" in norm_mode(self.model)

    def check(self, ways: int) -> None:
        """One class has nothing to be compared with."""
        if ways < 2:
            raise UserError(
                f"algorithm=prototypes classifies; episode.ways={ways} needs at least 2 (regression: algorithm=maml)"
            )

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; adaptation takes one go, so there is one iterate."""
        if unlabelled is not None:
            raise UserError("algorithm=prototypes does not use unlabelled examples")
        meta = {name: value.detach() for name, value in self.named_parameters()}

        def answer(x: Inputs, mask: Tensor | None) -> Tensor:
            def one(tree: Tree, autodiff: Autodiff) -> Tree:
                return {"logits": self._logits(meta, unpack(tree["support"], support.ways), tree["x"], tree.get("mask"))}

            trees = {"support": pack(support), "x": x} | ({} if mask is None else {"mask": mask})
            with torch.no_grad():
                return self.over_tasks.map(one, trees)["logits"]

        return Predictor([answer])

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`."""
        meta = dict(self.named_parameters())
        gradients, aside = self.over_tasks.mean_gradient(self._task_loss, meta, tasks)
        value = with_gradient(aside["loss"].mean(), meta, gradients) if torch.is_grad_enabled() else aside["loss"].mean()
        return OuterLoss(value, aside["logits"], aside["loss"][:, None])

    def _task_loss(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        logits = self._logits(meta, support, query.x, query.mask)
        loss = self.loss(logits, query)
        return loss, {"loss": loss, "logits": logits}

    def _logits(self, meta: Params, support: Examples, x: Inputs, mask: Tensor | None) -> Tensor:
        """(queries, ways) of one task."""
        features = self.embedding.outputs(meta, {}, support.x, support.mask)
        queries = self.embedding.query_outputs(meta, {}, support, x, mask)
        return without_absent_classes(-squared_distances(queries, class_means(features, support)), support)


def class_means(features: Tensor, support: Examples) -> Tensor:
    """(ways, features): the mean of each class's real support features (examples, features)."""
    member = (support.y == torch.arange(support.ways, device=support.y.device)[:, None]).to(features.dtype)
    if support.mask is not None:
        member = member * support.mask
    return member @ features / member.sum(1, keepdim=True).clamp(min=1)


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """(m, n) squared Euclidean distances between the rows of (m, features) and (n, features)."""
    return ((left[:, None] - right[None]) ** 2).sum(-1)
