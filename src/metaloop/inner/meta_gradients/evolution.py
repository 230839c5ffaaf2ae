"""Meta-gradients estimated from the outer loss at perturbed meta-parameters, without differentiating through steps."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient, TaskEvaluation
from metaloop.inner.meta_gradients.window import spans, stretch
from metaloop.inner.noise import normal, task_number
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params, Tasks

_BITS = 40  # bits of a task's number; the bits above distinguish its pairs and windows
_STREAM = 0  # stream of the random numbers within a task, see metaloop.inner.noise


@dataclass(frozen=True)
class TaskPair:
    """One task's estimate from one pair of particles, perturbed by opposite noise.

    The bits of the task's number above the 40th hold the pair's number, so that all pairs run the same (compiled) code.
    """

    problem: InnerProblem
    sigma: float
    length: int

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Return the estimate, and the mean of the pair's losses (``loss``)."""
        problem = self.problem
        number = task_number(support)
        pair, number = number >> _BITS, number & ((1 << _BITS) - 1)
        support = replace(support, number=number)  # all other draws within the task are the same for all its pairs
        windows = list(spans(problem.horizon, self.length))
        total = {name: torch.zeros_like(value) for name, value in meta.items()}
        carried, losses = dict(total), []
        ends: dict[float, tuple[Params, Params] | None] = {1.0: None, -1.0: None}
        with torch.no_grad():
            for window, span in enumerate(windows):
                noise = perturbation(number, pair * len(windows) + window, meta)
                carried = {name: value + noise[name] for name, value in carried.items()}
                totals = []
                for sign in (1.0, -1.0):
                    perturbed = {name: value + sign * self.sigma * noise[name] for name, value in meta.items()}
                    counted, ends[sign] = stretch(
                        problem, perturbed, support, query, span, autodiff, exact_from=problem.steps, at=ends[sign]
                    )
                    totals += [counted.total()] if counted.losses else []  # no loss of this window may count
                if totals:
                    slope = (totals[0] - totals[1]) / (2 * self.sigma)
                    total = {name: value + slope * carried[name] for name, value in total.items()}
                    losses.append((totals[0] + totals[1]) / 2)
        return total, {"loss": torch.stack(losses).sum()}


def perturbation(number: Tensor, index: Tensor | int, meta: Params) -> Params:
    """Draw independent standard normal numbers for every entry of every meta-parameter.

    Args:
        number: number of the task, below 2**40.
        index: number of the perturbation within the task.
        meta: the meta-parameters.
    """
    sizes = [value.numel() for value in meta.values()]
    flat = torch.split(normal(number | (index << _BITS), _STREAM, (sum(sizes),), torch.float64), sizes)
    return {name: part.view(value.shape).to(value) for (name, value), part in zip(meta.items(), flat, strict=True)}


class EvolutionStrategies(MetaGradient):
    """The gradient of the outer loss J smoothed by normal noise, from pairs of opposite perturbations.

    ``1 / (2 sigma pairs) * sum of (J(meta + sigma e) - J(meta - sigma e)) e`` over the pairs, e standard normal (ES-MAML, Song
    et al. 2020, equation 5 and antithetic sampling). e covers every meta-parameter, the rule's included, and is drawn anew for
    every task and pair as a function of the task's number. Two deviations from the paper: every task has its own noise instead
    of a fixed set of tasks, and the inner step is the rule's instead of another evolution strategy.

    It needs no derivative of a step, so rules and models need not be differentiable, and its memory is that of one step. The
    standard error falls with the square root of pairs times tasks and grows with the square root of the number of
    meta-parameters. The reported loss and logits are those of the unperturbed meta-parameters.

    Args:
        pairs: pairs of perturbations a task; each costs two adaptations.
        sigma: standard deviation of the noise, in units of the meta-parameters.
    """

    def __init__(self, pairs: int, sigma: float) -> None:
        _check(pairs, sigma)
        self.pairs = pairs
        self.sigma = sigma

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        whole = max(problem.horizon, 1)
        return _mean(TaskPair(problem, self.sigma, whole), self.pairs, meta, tasks, over_tasks)


class PersistentEvolution(MetaGradient):
    """Evolution strategies on windows of a long inner problem, without the bias of truncation (Vicol et al. 2021, algorithm 2).

    Each particle takes all inner steps in windows of ``length``. Its meta-parameters are perturbed anew in each window, and
    every window's losses are credited to the sum of the particle's perturbations so far: the estimate is the sum over windows
    of ``(L(+) - L(-)) / (2 sigma) * (e_1 + ... + e_window)``, averaged over pairs. A long problem thus gets many small credits
    instead of one large one. This helps only if the objective counts more than the last step.

    Deviation: the paper takes an outer step after each window; here all windows of a task run at the same meta-parameters, so
    that an outer step is a function of its tasks alone. With one window it is :class:`EvolutionStrategies`.

    Args:
        pairs: pairs of particles a task; each costs two adaptations.
        sigma: standard deviation of the noise, in units of the meta-parameters.
        length: inner steps in a window.
    """

    def __init__(self, pairs: int, sigma: float, length: int) -> None:
        _check(pairs, sigma)
        if length < 1:
            raise UserError(f"algorithm.meta_gradient.length={length}: at least 1")
        self.pairs = pairs
        self.sigma = sigma
        self.length = length

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return _mean(TaskPair(problem, self.sigma, self.length), self.pairs, meta, tasks, over_tasks)


def _mean(task: TaskPair, pairs: int, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
    """Return the mean of all pairs' estimates, one pair in memory at a time, and the unperturbed losses and logits."""
    total = {name: torch.zeros_like(value) for name, value in meta.items()}
    for pair in range(pairs):
        assert tasks.support.number is not None
        numbered = replace(tasks, support=replace(tasks.support, number=tasks.support.number + (pair << _BITS)))
        gradients, _ = over_tasks.mean_of_gradients(task, meta, numbered)
        total = {name: value + gradients[name] / pairs for name, value in total.items()}
    _, outputs = over_tasks.mean_of_gradients(TaskEvaluation(task.problem), meta, tasks)
    return total, outputs


def _check(pairs: int, sigma: float) -> None:
    if pairs < 1:
        raise UserError(f"algorithm.meta_gradient.pairs={pairs}: at least 1")
    if not sigma > 0:
        raise UserError(f"algorithm.meta_gradient.sigma={sigma}: above 0")
