"""Solvers of ``A u = b`` from products ``A v`` alone, where ``A`` is a symmetric positive definite matrix over parameters.

The number of products is fixed and no branch depends on values, so that solvers run under vmap and compiled.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Function
from metaloop.types import Params


class LinearSolver(ABC):
    """An approximate solver of a linear system."""

    @abstractmethod
    def solve(self, product: Function, b: Params) -> Params:
        """Return ``u`` such that ``product(u)`` is close to ``b``."""


@dataclass(frozen=True)
class ConjugateGradient(LinearSolver):
    """Conjugate gradients from zero (Hestenes and Stiefel 1952), exact after as many iterations as there are unknowns.

    A direction without positive curvature ends the search, as in truncated Newton methods; the solution so far is returned.

    Args:
        iterations: number of products with the matrix.
        damping: number added to the matrix's diagonal.
    """

    iterations: int
    damping: float = 0.0

    def __post_init__(self) -> None:
        _check("iterations", self.iterations, self.damping)

    def solve(self, product: Function, b: Params) -> Params:
        """See :meth:`LinearSolver.solve`."""
        solution: Params = {name: torch.zeros_like(value) for name, value in b.items()}
        residual, direction = b, b
        size = _dot(b, b)
        for _ in range(self.iterations):
            image = _plus(product(direction), self.damping, direction)
            curvature = _dot(direction, image)
            convex = curvature > 0
            length = torch.where(convex, size / torch.where(convex, curvature, 1.0), 0.0)
            solution, residual = _plus(solution, length, direction), _plus(residual, -length, image)
            before, size = size, _dot(residual, residual)
            # Once the search has ended (or b is zero) the direction is zero, and so is every later step.
            turn = torch.where(convex, size / torch.where(convex, before, 1.0), 0.0)
            direction = _plus({n: torch.where(convex, value, 0.0) for n, value in residual.items()}, turn, direction)
        return solution


@dataclass(frozen=True)
class Neumann(LinearSolver):
    """``rate * sum of (I - rate A)^k b`` over the first ``terms`` powers k from 0 (Lorraine et al. 2020, algorithm 3).

    It converges if ``rate`` is below two over the largest eigenvalue. It then equals the result of unrolling as many steps of
    gradient descent at that rate from the minimum.

    Args:
        terms: number of terms of the series; the number of products with the matrix is one fewer.
        rate: step size; the paper uses that of the inner loop.
        damping: number added to the matrix's diagonal.
    """

    terms: int
    rate: float
    damping: float = 0.0

    def __post_init__(self) -> None:
        _check("terms", self.terms, self.damping)
        if not self.rate > 0:
            raise UserError(f"algorithm.meta_gradient.solver.rate={self.rate}: above 0")

    def solve(self, product: Function, b: Params) -> Params:
        """See :meth:`LinearSolver.solve`."""
        total, term = b, b
        for _ in range(self.terms - 1):
            image = _plus(product(term), self.damping, term)
            term = _plus(term, -self.rate, image)
            total = _plus(total, 1.0, term)
        return {name: self.rate * value for name, value in total.items()}


def _check(name: str, count: int, damping: float) -> None:
    if count < 1:
        raise UserError(f"algorithm.meta_gradient.solver.{name}={count}: at least 1")
    if not damping >= 0:
        raise UserError(f"algorithm.meta_gradient.solver.damping={damping}: at least 0")


def _dot(left: Params, right: Params) -> Tensor:
    return torch.stack([(value * right[name]).sum() for name, value in left.items()]).sum()


def _plus(left: Params, factor: Tensor | float, right: Params) -> Params:
    """Return ``left + factor * right``."""
    return {name: value + factor * right[name] for name, value in left.items()}
