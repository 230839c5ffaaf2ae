"""Meta-gradients that follow only a part of the inner steps, for long inner problems."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.meta_gradient import EpisodeLoss, MetaGradient, part
from metaloop.inner.meta_gradients.window import Seen, spans, stretch
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params, Tasks


class Truncated(MetaGradient):
    """The last ``last`` inner gradients are differentiated, those before are constants.

    Between first order (``last=0``) and unrolled (``last`` at least the steps). Shaban et al. 2019 (K-RMD, section 3) cut the
    chain instead: nothing flows back to the iterate before the last K steps, which suits hyper-parameters but leaves a start
    without a gradient. Here the identity part of every step, ``p[t+1] = p[t] + ...``, still carries the derivative to the
    start and to the rule's parameters in every step, so that both are learned for every ``last``.

    Args:
        last: steps counted back from the last iterate that the objective looks at.
    """

    def __init__(self, last: int) -> None:
        if last < 0:
            raise UserError(f"algorithm.meta_gradient.last={last}: at least 0")
        self.last = last

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        exact_from = max(problem.horizon - self.last, 0)
        return over_tasks.mean_gradient(EpisodeLoss(problem, exact_from), meta, tasks)


PARAMS, STATE = "params:", "state:"  # prefixes of what one window hands to the next


@dataclass(frozen=True)
class TaskWindows:
    """One task's sum of the windows' gradients, each window a graph of its own."""

    problem: InnerProblem
    length: int
    second_order: bool

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """The task's meta-gradient, and what :meth:`MetaGradient.mean` returns of a task."""
        total = {name: torch.zeros_like(value) for name, value in meta.items()}
        losses, per_step, logits = [], [], []
        at: tuple[Params, Params] | None = None
        for span in spans(self.problem.horizon, self.length):
            counts = any(self.problem.weights[span.start + (span.start > 0) : span.stop + 1])
            if not counts:  # nothing to differentiate: walk on without a graph
                with torch.no_grad():
                    _, at = self._stretch(meta, support, query, span, autodiff, at)
                continue
            gradients, aside = autodiff.value_and_gradient(
                lambda here, span=span, at=at: self._window(here, support, query, span, autodiff, at),  # type: ignore[misc]
                meta,
            )
            total = {name: value + gradients[name] for name, value in total.items()}
            losses.append(aside["loss"])
            per_step.append(aside["per_step"])
            logits.append(aside["logits"])
            at = part(aside, PARAMS), part(aside, STATE)
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
        """The window's share of the objective; beside it losses, logits and where the window ends."""
        seen, (params, state) = self._stretch(meta, support, query, span, autodiff, at)
        loss = seen.total()
        aside = {"loss": loss, "logits": seen.logits[-1], "per_step": torch.stack(seen.losses)}
        end = {PARAMS + name: value for name, value in params.items()} | {STATE + name: v for name, v in state.items()}
        return loss, aside | end

    def _stretch(
        self,
        meta: Params,
        support: Examples,
        query: Examples,
        span: range,
        autodiff: Autodiff,
        at: tuple[Params, Params] | None,
    ) -> tuple[Seen, tuple[Params, Params]]:
        exact_from = 0 if self.second_order else self.problem.steps
        return stretch(self.problem, meta, support, query, span, autodiff, exact_from=exact_from, at=at)


class Windows(MetaGradient):
    """Backpropagation through time in windows: no derivative crosses from one window of inner steps to the one before.

    The iterate and the rule's state enter a window as constants, and the query losses that the objective sees within it reach
    the meta-parameters through this window's steps alone, so memory is that of ``length`` steps. Learned optimisers are
    trained so (Andrychowicz et al. 2016, section 2 and figure 2): with ``second_order: false``, as there, the gradients that
    the rule is given are constants, too. All windows of a task are run at the same meta-parameters, which then take one
    step; the paper's code updates between windows.

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
            UserError: only the start can be learned, but no loss of the first window counts.
        """
        if not any(True for _ in problem.rule.parameters()) and not any(problem.weights[: self.length + 1]):
            raise UserError(
                f"algorithm.meta_gradient=windows learns a start from the first window, of {self.length} steps, where this "
                f"objective sees nothing; take algorithm/objective=weighted_sum or algorithm.meta_gradient.length of at "
                f"least algorithm.steps={problem.steps}"
            )

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskWindows(problem, self.length, self.second_order), meta, tasks)
