"""Meta-gradients estimated from the outer loss at perturbed meta-parameters; nothing is differentiated through a step."""

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

_BITS = 40  # of a task's number; the bits above tell its pairs and windows apart
_STREAM = 0  # see metaloop.inner.noise


@dataclass(frozen=True)
class TaskPair:
    """One task's estimate from one pair of particles, perturbed by opposite noise.

    The pair's number stands in the bits of the task's number above the 40th, so that all pairs run the same (compiled) code.
    """

    problem: InnerProblem
    sigma: float
    length: int

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """The estimate, and the mean of the pair's losses (``loss``)."""
        problem = self.problem
        number = task_number(support)
        pair, number = number >> _BITS, number & ((1 << _BITS) - 1)
        support = replace(support, number=number)  # all else that is drawn within the task is the same for all its pairs
        windows = list(spans(problem.horizon, self.length))
        total = {name: torch.zeros_like(value) for name, value in meta.items()}
        carried, losses = dict(total), []
        ends: dict[float, tuple[Params, Params] | None] = {1.0: None, -1.0: None}
        with torch.no_grad():
            for window, span in enumerate(windows):
                noise = _drawn(number | ((pair * len(windows) + window) << _BITS), meta)
                carried = {name: value + noise[name] for name, value in carried.items()}
                found = []
                for sign in (1.0, -1.0):
                    here = {name: value + sign * self.sigma * noise[name] for name, value in meta.items()}
                    seen, ends[sign] = stretch(
                        problem, here, support, query, span, autodiff, exact_from=problem.steps, at=ends[sign]
                    )
                    found += [seen.total()] if seen.losses else []  # the objective may not look at this window
                if found:
                    slope = (found[0] - found[1]) / (2 * self.sigma)
                    total = {name: value + slope * carried[name] for name, value in total.items()}
                    losses.append((found[0] + found[1]) / 2)
        return total, {"loss": torch.stack(losses).sum()}


def _drawn(number: Tensor, meta: Params) -> Params:
    """Independent standard normal numbers for every entry of every meta-parameter."""
    sizes = [value.numel() for value in meta.values()]
    flat = normal(number, _STREAM, (sum(sizes),), torch.float64).split(sizes)
    return {name: part.view(value.shape).to(value) for (name, value), part in zip(meta.items(), flat, strict=True)}


class EvolutionStrategies(MetaGradient):
    """The gradient of the outer loss J smoothed by normal noise, from pairs of opposite perturbations.

    ``1 / (2 sigma pairs) * sum of (J(meta + sigma e) - J(meta - sigma e)) e`` over the pairs, e standard normal (ES-MAML, Song
    et al. 2020, equation 5 and antithetic sampling). e covers every meta-parameter, the rule's too, and is drawn anew for
    every task and pair as a function of the task's number. The paper's fixed sets of tasks and its evolution strategy for the
    inner step as well are not taken over: here tasks have noise of their own, and the inner step is the rule's.

    It needs no derivative of a step, so it is also for rules and models that have none there, and memory is that of one step.
    The standard error falls with the root of pairs times tasks, and grows with the root of the number of meta-parameters.
    The loss and logits that are reported are those of the unperturbed meta-parameters.

    Args:
        pairs: of perturbations a task; each costs two adaptations.
        sigma: standard deviation of the noise, in units of the meta-parameters.
    """

    def __init__(self, pairs: int, sigma: float) -> None:
        _check(pairs, sigma)
        self.pairs = pairs
        self.sigma = sigma

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        whole = max(problem.horizon, 1)
        return _mean(TaskPair(problem, self.sigma, whole), self.pairs, meta, tasks, over_tasks)


class PersistentEvolution(MetaGradient):
    """Evolution strategies on windows of a long inner problem, without the bias of truncation (Vicol et al. 2021, algorithm 2).

    Each particle walks all inner steps in windows of ``length``, its meta-parameters perturbed anew in each window, and every
    window's losses are credited to the sum of the particle's perturbations so far: the estimate is the sum over windows of
    ``(L(+) - L(-)) / (2 sigma) * (e_1 + ... + e_window)``, averaged over pairs. A long problem so gets many small credits in
    place of one; the objective must look at more than the last step for that to be of use.

    The paper takes an outer step after each window; here a task's windows are all run at the same meta-parameters, so that an
    outer step is a function of its tasks alone. With one window it is :class:`EvolutionStrategies`.

    Args:
        pairs: of particles a task; each costs two adaptations.
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
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return _mean(TaskPair(problem, self.sigma, self.length), self.pairs, meta, tasks, over_tasks)


def _mean(task: TaskPair, pairs: int, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
    """The mean of all pairs' estimates, one pair in memory at a time, and the unperturbed losses and logits."""
    total = {name: torch.zeros_like(value) for name, value in meta.items()}
    for pair in range(pairs):
        assert tasks.support.number is not None
        numbered = replace(tasks, support=replace(tasks.support, number=tasks.support.number + (pair << _BITS)))
        gradients, _ = over_tasks.mean_of_gradients(task, meta, numbered)
        total = {name: value + gradients[name] / pairs for name, value in total.items()}
    _, aside = over_tasks.mean_of_gradients(TaskEvaluation(task.problem), meta, tasks)
    return total, aside


def _check(pairs: int, sigma: float) -> None:
    if pairs < 1:
        raise UserError(f"algorithm.meta_gradient.pairs={pairs}: at least 1")
    if not sigma > 0:
        raise UserError(f"algorithm.meta_gradient.sigma={sigma}: above 0")
