"""How the outer loss reaches the meta-parameters."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.over_tasks import OverTasks, with_gradient
from metaloop.inner.problem import MODEL, InnerProblem
from metaloop.types import Examples, OuterLoss, Params, Tasks


class MetaGradient(ABC):
    """From "how tasks adapt" to a scalar whose gradient is the meta-gradient."""

    @abstractmethod
    def check(self, problem: InnerProblem) -> None:
        """Raise a UserError, before training starts, where this cannot give ``problem``'s meta-gradient."""

    @abstractmethod
    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """The mean meta-gradient, and stacked per task: ``loss`` (tasks,), ``logits``, ``per_step`` (tasks, points)."""

    def loss(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> OuterLoss:
        """The outer loss of a meta-batch; ``.loss.backward()`` gives each of ``meta`` its mean meta-gradient."""
        gradients, aside = self.mean(problem, meta, tasks, over_tasks)
        value = aside["loss"].mean()
        if torch.is_grad_enabled():
            value = with_gradient(value, meta, gradients)
        return OuterLoss(value, aside["logits"], aside["per_step"])


@dataclass(frozen=True)
class EpisodeLoss:
    """The objective's query loss of one task, differentiable in ``meta``. Equal ones share compiled code."""

    problem: InnerProblem
    second_order: bool

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        """The scalar, and what :meth:`MetaGradient.mean` returns of a task."""
        problem = self.problem
        path = problem.iterates(meta, support, problem.steps, autodiff, second_order=self.second_order)
        seen = [
            (weight, problem.task.query_loss(meta, at, support, query))
            for weight, at in zip(problem.weights, path, strict=True)
            if weight
        ]
        total = torch.stack([weight * loss for weight, (loss, _) in seen]).sum()
        per_step = torch.stack([loss for _, (loss, _) in seen])
        return total, {"loss": total, "logits": seen[-1][1][1], "per_step": per_step}


class Unrolled(MetaGradient):
    """Backpropagation through all inner steps at once (MAML, Finn et al. 2017, equation 1).

    Exact. Every step's activations are kept, so memory grows with the steps; :class:`ReverseSweep` is flat.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_gradient(EpisodeLoss(problem, second_order=True), meta, tasks)


class FirstOrder(MetaGradient):
    """Inner gradients are taken for constants (FOMAML, Finn et al. 2017, section 5.2).

    What the rule itself learns (rates) still gets its exact gradient given those constants.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_gradient(EpisodeLoss(problem, second_order=False), meta, tasks)


@dataclass(frozen=True)
class TaskDisplacement:
    """Start minus adapted parameters of one task; zero for what is not adapted."""

    problem: InnerProblem

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """The task's displacement, and what :meth:`MetaGradient.mean` returns of a task."""
        problem = self.problem
        with torch.no_grad():
            path = problem.iterates(meta, support, problem.steps, autodiff, second_order=False)
            gradients = {name: torch.zeros_like(value) for name, value in meta.items()}
            for name, start in path[0].items():
                if start is meta.get(MODEL + name):  # what starts elsewhere has no displacement
                    gradients[MODEL + name] = start - path[-1][name]
            loss, logits = problem.task.query_loss(meta, path[-1], support, query)
        return gradients, {"loss": loss, "logits": logits, "per_step": loss[None]}


class Displacement(MetaGradient):
    """The outer loop moves the start towards where tasks end (Reptile, Nichol et al. 2018, equation 1 with a batch of tasks).

    Only the start is learned, and from the support set alone: a rule with meta-parameters, or a head that does not start from
    learned values, has no displacement. With outer SGD at rate e this is the paper's update with step size e.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`.

        Raises:
            UserError: the rule has meta-parameters, or the objective looks at more than the last step.
        """
        if any(True for _ in problem.rule.parameters()):
            raise UserError(
                "algorithm.meta_gradient=displacement cannot learn the rule's parameters; take a rule that has none"
            )
        if problem.weights[-1] != 1.0:
            raise UserError("algorithm.meta_gradient=displacement sees no query loss; take algorithm/objective=last_step")

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskDisplacement(problem), meta, tasks)
