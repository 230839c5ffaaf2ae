"""A learner."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.problems.task_loss import TaskLoss, restricted
from metaloop.types import Examples, Inputs, OuterLoss, Tasks


class Cosine(Learner):
    """Each query goes to the class whose mean embedding points its way. Padding and absent classes count nowhere.

    Args:
        model: the embedding, without a head; given by the program.
        loss: of one task; given by the program.
        over_tasks: how per-task functions are run; all tasks are one batch here.
        scale: of the logits; learned.
    """

    requires: ClassVar[Requirements] = Requirements(head=False)

    def __init__(self, model: nn.Module, loss: TaskLoss, over_tasks: OverTasks, scale: float) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.over_tasks = over_tasks
        self.scale = nn.Parameter(torch.tensor(scale))

    @property
    def transductive(self) -> bool:
        """No query knows of another."""
        return False

    def check(self, ways: int) -> None:
        """Any number of classes will do."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """One go, so there is one iterate."""
        return Predictor([lambda x, mask: self._logits(support, x)])

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """The mean over tasks of the query loss."""
        logits = self._logits(tasks.support, tasks.query.x)
        losses = [self.loss(one, tasks.query.map(lambda t, i=i: t[i])) for i, one in enumerate(logits)]
        each = torch.stack(losses)
        return OuterLoss(each.mean(), logits.detach(), each[:, None].detach())

    def _logits(self, support: Examples, x: Inputs) -> Tensor:
        belongs = F.one_hot(support.y, support.ways).bool()  # (tasks, examples, ways)
        if support.mask is not None:
            belongs = belongs & support.mask[..., None]
        members, features = belongs.to(self.scale.dtype), self._embed(support.x)
        means = members.transpose(1, 2) @ features / members.sum(1).clamp(min=1)[..., None]
        logits = self.scale * F.normalize(self._embed(x), dim=-1) @ F.normalize(means, dim=-1).transpose(1, 2)
        return restricted(logits, belongs.any(1)[:, None])

    def _embed(self, x: Inputs) -> Tensor:
        """(tasks, examples, *input) to (tasks, examples, features)."""
        assert isinstance(x, Tensor)
        return self.model(x.flatten(0, 1)).unflatten(0, x.shape[:2])
