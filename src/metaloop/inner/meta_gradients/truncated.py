"""Meta-gradients that differentiate only part of the inner steps, for long inner problems."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.meta_gradient import EpisodeLoss, MetaGradient, part
from metaloop.inner.meta_gradients.window import QueryLosses, spans, stretch
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params, Tasks


class Truncated(MetaGradient):
    """The gradient with the last ``last`` inner gradients differentiated and the earlier ones treated as constants.

    It lies between first order (``last=0``) and unrolled (``last`` at least the number of steps). Deviation: Shaban et al. 2019
    (K-RMD, section 3) cut the chain, so that no gradient reaches the iterate before the last K steps; that suits
    hyper-parameters but leaves a start without a gradient. Here the identity part of every step, ``p[t+1] = p[t] + ...``, still
    carries the derivative to the start and to the rule's parameters in every step, so that both are learned for every ``last``.

    Args:
        last: number of steps, counted back from the last iterate that the objective counts.
    """

    def __init__(self, last: int) -> None:
        if last < 0:
            raise UserError(f"algorithm.meta_gradient.last={last}: at least 0")
        self.last = last

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        exact_from = max(problem.horizon - self.last, 0)
        return over_tasks.mean_gradient(EpisodeLoss(problem, exact_from), meta, tasks)


PARAMS, STATE = "params:", "state:"  # prefixes of the outputs that one window passes to the next


@dataclass(frozen=True)
class TaskWindows:
    """One task's sum of the windows' gradients, where each window has its own graph."""

    problem: InnerProblem
    length: int
    second_order: bool

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Return the task's meta-gradient and its entry of the outputs of :meth:`MetaGradient.mean`."""
        total = {name: torch.zeros_like(value) for name, value in meta.items()}
        losses, per_step, logits = [], [], []
        at: tuple[Params, Params] | None = None
        for span in spans(self.problem.horizon, self.length):
            counts = any(self.problem.weights[span.start + (span.start > 0) : span.stop + 1])
            if not counts:  # no loss of this window counts: take its steps without a graph
                with torch.no_grad():
                    _, at = self._stretch(meta, support, query, span, autodiff, at)
                continue
            gradients, outputs = autodiff.value_and_gradient(
                lambda values, span=span, at=at: self._window(values, support, query, span, autodiff, at),  # type: ignore[misc]
                meta,
            )
            total = {name: value + gradients[name] for name, value in total.items()}
            losses.append(outputs["loss"])
            per_step.append(outputs["per_step"])
            logits.append(outputs["logits"])
            at = part(outputs, PARAMS), part(outputs, STATE)
        return total, {"loss": torch.stack(losses).sum(), "logits": logits[-1], "per_step": torch.cat(per_step)}

    def _window(
        self,
        meta: Params,
        support: Examples,
        query: Examples,
        span: range,
        autodiff: Autodiff,
        at: tuple[Params, Params] | None,
    ) -> tuple[Tensor, Params]:
        """Return the window's share of the objective, and outputs: losses, logits, and the iterate and state at its end."""
        counted, (params, state) = self._stretch(meta, support, query, span, autodiff, at)
        loss = counted.total()
        outputs = {"loss": loss, "logits": counted.logits[-1], "per_step": torch.stack(counted.losses)}
        end = {PARAMS + name: value for name, value in params.items()} | {STATE + name: v for name, v in state.items()}
        return loss, outputs | end

    def _stretch(
        self,
        meta: Params,
        support: Examples,
        query: Examples,
        span: range,
        autodiff: Autodiff,
        at: tuple[Params, Params] | None,
    ) -> tuple[QueryLosses, tuple[Params, Params]]:
        exact_from = 0 if self.second_order else self.problem.steps
        return stretch(self.problem, meta, support, query, span, autodiff, exact_from=exact_from, at=at)


class Windows(MetaGradient):
    """Truncated backpropagation through time: no derivative flows from one window of inner steps to the window before.

    The iterate and the rule's state enter a window as constants. The query losses that count within a window reach the
    meta-parameters through this window's steps alone, so memory is that of ``length`` steps. Learned optimisers are trained in
    this way (Andrychowicz et al. 2016, section 2 and figure 2); with ``second_order: false``, as in that paper, the gradients
    that enter the rule are constants, too. Deviation: all windows of a task run at the same meta-parameters, which then take
    one outer step; the paper's code updates between windows.

    A start is learned from the first window only. One window of all steps is the unrolled gradient (or first order).

    Args:
        length: inner steps in a window.
        second_order: whether inner gradients are differentiated.
    """

    def __init__(self, length: int, *, second_order: bool) -> None:
        if length < 1:
            raise UserError(f"algorithm.meta_gradient.length={length}: at least 1")
        self.length = length
        self.second_order = second_order

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`.

        Raises:
            UserError: the start is all there is to learn, but no loss of the first window counts.
        """
        if not any(True for _ in problem.rule.parameters()) and not any(problem.weights[: self.length + 1]):
            raise UserError(
                f"algorithm.meta_gradient=windows learns a start from the first window, of {self.length} steps, in which "
                f"this objective counts no loss; take algorithm/objective=weighted_sum or algorithm.meta_gradient.length of at "
                f"least algorithm.steps={problem.steps}"
            )

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskWindows(problem, self.length, self.second_order), meta, tasks)
