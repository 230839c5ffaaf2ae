"""Several trained copies of one learner, whose answers are averaged."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.learner import Answer, Learner, Predictor, Requirements
from metaloop.types import Examples, Inputs, OuterLoss, Tasks


class Ensemble(Learner):
    """The mean of the members' answers: of logits in classification, as in the code of Antoniou et al. 2019.

    It is for tests; it cannot be trained.

    Args:
        members: Learners of one class and config; at least one.
    """

    requires: ClassVar[Requirements] = Requirements()
    learns = False

    def __init__(self, members: Sequence[Learner]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._first = members[0]
        self.uses_unlabelled = self._first.uses_unlabelled
        self.model, self.over_tasks = self._first.model, self._first.over_tasks

    @property
    def transductive(self) -> bool:
        """See :attr:`Learner.transductive`."""
        return self._first.transductive

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`."""
        self._first.check(ways)

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; every member adapts."""
        predictors = [member.adapt(support, unlabelled) for member in self.members]  # type: ignore[operator]
        points = range(len(predictors[0].iterates))
        return Predictor([_mean([_at(each, point) for each in predictors]) for point in points], predictors[0].curve_steps)

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`.

        Raises:
            UserError: always.
        """
        raise UserError("evaluation.ensemble: an ensemble of checkpoints is tested, and cannot be trained")


def _at(predictor: Predictor, point: int) -> Answer:
    def answer(x: Inputs, mask: Tensor | None) -> Tensor:
        prepared = x if predictor.prepare is None else predictor.prepare(x, mask)
        return predictor.iterates[point](prepared, mask)

    return answer


def _mean(answers: Sequence[Callable[[Inputs, Tensor | None], Tensor]]) -> Answer:
    return lambda x, mask: torch.stack([answer(x, mask) for answer in answers]).mean(0)
