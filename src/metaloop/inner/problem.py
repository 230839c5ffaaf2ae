"""The inner problem: how one task is learned, as pure functions of the meta-parameters."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Examples, Params

MODEL, RULE = "model.", "rule."  # prefixes of the model's and the rule's parameters among the meta-parameters


class TaskModel(ABC):
    """What the inner loop needs to know of a learner: where a task starts, and its losses."""

    @abstractmethod
    def start(self, meta: Params, support: Examples) -> Params:
        """The adapted parameters before the first step, a differentiable function of ``meta``."""

    @abstractmethod
    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """The scalar that step ``step`` descends."""

    @abstractmethod
    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples) -> tuple[Tensor, Tensor]:
        """The scalar query loss, and the model's (queries, *output) answers."""


class _RuleStep(nn.Module):
    """Lets ``functional_call``, which calls ``forward``, reach ``InnerRule.step``."""

    def __init__(self, rule: InnerRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        return self.rule.step(gradients, state, params, step, loss)


@dataclass(frozen=True)
class InnerProblem:
    """How tasks adapt. Everything is a function of ``meta``, the mapping of all meta-parameters by qualified name.

    Attributes:
        task: start and losses.
        rule: one inner step; its parameters are read from ``meta`` under ``rule.``.
        weights: ``steps + 1`` weights of the query loss at the start and after each step.
        steps: inner steps in meta-training.
        proximal: strength of the pull back to the start, see :meth:`inner_loss`.
        outer_step: outer steps taken so far, for what changes on the way.
    """

    task: TaskModel
    rule: InnerRule
    weights: tuple[float, ...]
    steps: int
    proximal: float = 0.0
    outer_step: int = field(default=0, compare=False)  # compiled code of one step serves the next

    _call: nn.Module = field(init=False, repr=False, compare=False)
    _rule_names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_call", _RuleStep(self.rule))
        object.__setattr__(self, "_rule_names", tuple(name for name, _ in self.rule.named_parameters()))

    @property
    def horizon(self) -> int:
        """Inner steps until the last iterate that the objective looks at; no meta-gradient needs more."""
        return max(t for t, weight in enumerate(self.weights) if weight)

    def inner_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """The support loss, plus ``proximal / 2 |params - start|^2`` (iMAML, Rajeswaran et al. 2019, equation 3)."""
        loss = self.task.support_loss(meta, params, support, step)
        if not self.proximal:
            return loss
        start = self.task.start(meta, support)
        squares = [((value - start[name]) ** 2).sum() for name, value in params.items()]
        return loss + self.proximal / 2 * torch.stack(squares).sum()

    def step(
        self,
        meta: Params,
        params: Params,
        state: Params,
        support: Examples,
        step: int,
        autodiff: Autodiff,
        *,
        second_order: bool,
    ) -> tuple[Params, Params]:
        """The next iterate and rule state; differentiable in meta, params and state.

        Without ``second_order`` the gradient is a constant, and only the rule's own arithmetic is differentiated.
        """
        gradients, loss = autodiff.gradient(
            lambda at: self.inner_loss(meta, at, support, step), params, second_order=second_order
        )
        if not self._rule_names:
            return self.rule.step(gradients, state, params, step, loss)
        own = {RULE + name: meta[RULE + name] for name in self._rule_names if RULE + name in meta}
        return functional_call(self._call, own, (gradients, state, params, step, loss))

    def walk(
        self,
        meta: Params,
        support: Examples,
        span: range,
        autodiff: Autodiff,
        *,
        exact_from: int = 0,
        at: tuple[Params, Params] | None = None,
    ) -> Iterator[tuple[Params, Params]]:
        """The iterate and rule state before the steps of ``span`` and after each of them; a walker keeps what it needs.

        Args:
            meta: all meta-parameters.
            support: of one task.
            span: numbers of the steps to take.
            autodiff: derivatives that work here.
            exact_from: from this step on gradients are differentiated, before it they are constants.
            at: iterate and state before the first step; None for the task's start.
        """
        if at is None:
            start = self.task.start(meta, support)
            at = start, self.rule.init(start)
        yield at
        for step in span:
            at = self.step(meta, *at, support, step, autodiff, second_order=step >= exact_from)
            yield at

    def iterates(self, meta: Params, support: Examples, steps: int, autodiff: Autodiff, *, second_order: bool) -> list[Params]:
        """The ``steps + 1`` iterates of one task, the start first."""
        exact_from = 0 if second_order else steps
        return [params for params, _ in self.walk(meta, support, range(steps), autodiff, exact_from=exact_from)]
