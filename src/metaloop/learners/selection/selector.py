"""The learner of algorithm-selection tasks: a policy fitted to each support set."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import Loop, OverTasks
from metaloop.learners.learner import Explains, Explanation, Learner, Predictor, Requirements
from metaloop.learners.selection.policy import Policy, PolicyFitter
from metaloop.models.cells import Cells
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Tasks

_KEPT = 32  # policies; data sets of one fold share theirs


class Selector(Learner, Explains):
    """Fits a policy to the data sets of each support set and predicts the performance of every learner on the queries.

    Nothing is learned from one task to the next. Equal support sets share one policy. Its random draws have one seed, which is
    drawn when the learner is built, so that it depends on ``seed``.

    Args:
        model: ``model=cells``, which returns meta-features and which of them are known as they are.
        loss: loss of one task.
        policy: settings of the policy.
        over_tasks: how tasks are run: in a loop.

    Raises:
        UserError: scikit-learn is not installed, tasks are to be run in another way, or the model is another one.
    """

    requires: ClassVar[Requirements] = Requirements(head=False)
    learns = False
    seed: Tensor
    transductive = False

    def __init__(self, model: nn.Module, loss: TaskLoss, policy: PolicyFitter, over_tasks: OverTasks) -> None:
        super().__init__()
        if not isinstance(over_tasks, Loop | Auto):
            raise UserError(
                f"algorithm/over_tasks: a policy is fitted task by task; take loop, not {type(over_tasks).__name__}"
            )
        if not isinstance(model, Cells):
            raise UserError("model: a policy reads meta-features as they are; take model=cells")
        if loss.of_classes:
            raise UserError(
                "dataset: these tasks have classes; a policy chooses among learners: take dataset=aslib episode=scenario"
            )
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise UserError("policies need scikit-learn: pip install scikit-learn") from error
        self.model, self.loss, self.policy = model, loss, policy
        self.over_tasks = Loop()
        self.idle = nn.Parameter(torch.zeros(()))  # the optimizer of the one outer step needs a parameter
        self.register_buffer("seed", torch.randint(2**31, ()))
        self._fitted: OrderedDict[bytes, Policy] = OrderedDict()

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; there are no inner steps, so there is one iterate."""
        if unlabelled is not None:
            raise UserError("policies do not use unlabelled examples; take episode.unlabelled=0")
        policies = [self._policy(support.map(lambda t, i=i: t[i])) for i in range(len(support.y))]  # type: ignore[misc]

        def answer(x: Inputs, mask: Tensor | None) -> Tensor:
            assert isinstance(x, Tensor)
            values = [policy.values(_meta_features(each)) for policy, each in zip(policies, x, strict=True)]
            return torch.from_numpy(np.stack(values)).to(x)

        return Predictor([answer])

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; its gradient is zero."""
        answers = self.adapt(tasks.support)(tasks.query.x, tasks.query.mask)
        queries = [tasks.query.map(lambda t, i=i: t[i]) for i in range(len(tasks))]  # type: ignore[misc]
        losses = torch.stack([self.loss(each, query) for each, query in zip(answers, queries, strict=True)])
        return OuterLoss(losses.mean() + 0 * self.idle, answers, losses[:, None])

    def explain(
        self, support: Examples, features: Sequence[str], actions: Sequence[str], query: Tensor | None = None
    ) -> Explanation:
        """See :meth:`Explains.explain`."""
        policy = self._policy(support.map(lambda tensor: tensor[0]))
        assert isinstance(support.x, Tensor)
        x = None if query is None else _meta_features(query[None])[0]
        reasons = policy.reasons(features, actions, x)
        shares = {} if reasons.importances is None else dict(zip(features, reasons.importances.tolist(), strict=True))
        return Explanation(dict(sorted(shares.items(), key=lambda item: -item[1])), reasons.tree, reasons.choice)

    def _policy(self, support: Examples) -> Policy:
        """The policy of one task's support set."""
        real = torch.ones(len(support.y), dtype=torch.bool) if support.mask is None else support.mask.cpu()
        assert isinstance(support.x, Tensor)
        x = _meta_features(support.x.cpu()[real])
        y = support.y.cpu()[real].double().numpy()
        key = x.tobytes() + y.tobytes()
        if key not in self._fitted:
            self._fitted[key] = self.policy.fit(x, y, int(self.seed))
            if len(self._fitted) > _KEPT:
                self._fitted.popitem(last=False)
        return self._fitted[key]


def _meta_features(x: Tensor) -> np.ndarray:
    """Meta-features (n, features) float64, nan where unknown, from inputs (n, 2, features)."""
    values, known = x.detach().cpu().double().flatten(2).unbind(1) if x.ndim == 3 else x.detach().cpu().double().unbind(1)
    return np.asarray(values.masked_fill(known == 0, torch.nan))
