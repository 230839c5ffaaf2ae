"""The inner problem: adaptation to one task, as pure functions of the meta-parameters."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.module_call import ModuleCall
from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Examples, Params

MODEL, RULE = "model.", "rule."  # prefixes of the model's and the rule's parameters among the meta-parameters
STATE = "state."  # prefix of a rule state that was kept, see InnerProblem.first_state


class TaskModel(ABC):
    """A task's start and losses: all that the inner loop needs of a learner."""

    @abstractmethod
    def start(self, meta: Params, support: Examples) -> Params:
        """Return the adapted parameters before the first step, differentiable in ``meta``."""

    @abstractmethod
    def support_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """Return the scalar loss that inner step ``step`` descends."""

    @abstractmethod
    def query_loss(self, meta: Params, params: Params, support: Examples, query: Examples, taken: int) -> tuple[Tensor, Tensor]:
        """Return the scalar query loss and the model's outputs (queries, *output), after ``taken`` inner steps."""


class _RuleStep(nn.Module):
    """A module whose ``forward`` is ``InnerRule.step``, because :class:`ModuleCall` calls ``forward``."""

    def __init__(self, rule: InnerRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        return self.rule.step(gradients, state, params, step, loss)


@dataclass(frozen=True)
class InnerProblem:
    """The adaptation to a task. Everything is a function of ``meta``, the mapping of all meta-parameters by qualified name.

    Attributes:
        task: the task's start and losses.
        rule: the inner step; its parameters are read from ``meta`` under the prefix ``rule.``.
        weights: ``steps + 1`` weights of the query loss, at the start and after each step.
        steps: number of inner steps in meta-training.
        proximal: strength of the proximal term that pulls back to the start, see :meth:`inner_loss`.
        outer_step: number of outer steps taken so far, for schedules.
    """

    task: TaskModel
    rule: InnerRule
    weights: tuple[float, ...]
    steps: int
    proximal: float = 0.0
    outer_step: int = field(default=0, compare=False)  # compiled code of one step serves the next

    _call: ModuleCall = field(init=False, repr=False, compare=False)
    _rule_names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the outer step, on which no task depends: what a worker process gets is equal from step to step."""
        return {**self.__dict__, "outer_step": 0}

    def __post_init__(self) -> None:
        object.__setattr__(self, "_call", ModuleCall(_RuleStep(self.rule)))
        object.__setattr__(self, "_rule_names", tuple(name for name, _ in self.rule.named_parameters()))

    @property
    def horizon(self) -> int:
        """Number of inner steps until the last iterate that the objective counts; no meta-gradient needs more."""
        return max(t for t, weight in enumerate(self.weights) if weight)

    def first_state(self, meta: Params, start: Params) -> Params:
        """Return the rule's state before the first step: that in ``meta`` under the prefix ``state.``, or a new one."""
        kept = {name.removeprefix(STATE): value for name, value in meta.items() if name.startswith(STATE)}
        return kept or self.rule.init(start)

    def inner_loss(self, meta: Params, params: Params, support: Examples, step: int) -> Tensor:
        """Return the support loss plus ``proximal / 2 |params - start|^2`` (iMAML, Rajeswaran et al. 2019, equation 3)."""
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
        """Take one inner step and return the next iterate and rule state, differentiable in meta, params and state.

        Without ``second_order`` the inner gradient is a constant, and only the rule's arithmetic is differentiated.
        """
        gradients, loss = autodiff.gradient(
            lambda at: self.inner_loss(meta, at, support, step), params, second_order=second_order
        )
        if not self._rule_names:
            return self.rule.step(gradients, state, params, step, loss)
        rule_params = {RULE + name: meta[RULE + name] for name in self._rule_names if RULE + name in meta}
        after, state = self._call(rule_params, (gradients, state, params, step, loss))
        return after, state

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
        """Yield the iterate and rule state before the first step of ``span`` and after each step.

        Only the latest pair is kept here; callers keep what they need.

        Args:
            meta: all meta-parameters.
            support: support set of one task.
            span: numbers of the steps to take.
            autodiff: derivatives for the execution at hand.
            exact_from: first step whose inner gradient is differentiated; earlier inner gradients are constants.
            at: iterate and state before the first step; None for the task's start.
        """
        if at is None:
            start = self.task.start(meta, support)
            at = start, self.first_state(meta, start)
        yield at
        for step in span:
            at = self.step(meta, *at, support, step, autodiff, second_order=step >= exact_from)
            yield at

    def iterates(self, meta: Params, support: Examples, steps: int, autodiff: Autodiff, *, second_order: bool) -> list[Params]:
        """Return the ``steps + 1`` iterates of one task, the start first."""
        exact_from = 0 if second_order else steps
        return [params for params, _ in self.walk(meta, support, range(steps), autodiff, exact_from=exact_from)]
