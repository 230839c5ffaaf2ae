"""Where a task's head starts."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.adapted import HEAD
from metaloop.types import Examples, Params

Features = Callable[[Params], Tensor]


class HeadInit(ABC):
    """The head's parameters at the start of a task, a differentiable function of the learned ones."""

    @abstractmethod
    def check(self, params: Params) -> None:
        """Raise a UserError, before training starts, where a task cannot start so with these adapted parameters."""

    @abstractmethod
    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """``params`` (adapted parameters by name) with the head's entries as they start.

        Args:
            params: the adapted parameters as the outer loop left them.
            support: of one task.
            features: what the head gets to see of the support set, (examples, features), from a network with ``params``.
        """


class Learned(HeadInit):
    """The head starts where the outer loop left it, as in MAML."""

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`; every composition works."""

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        return params


class Zero(HeadInit):
    """The head starts at zero in every task (Kao et al. 2022, "zeroing trick"), so that no class is preferred."""

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`."""
        require_head(params, "zero")

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        return {name: torch.zeros_like(value) if name.startswith(HEAD) else value for name, value in params.items()}


def require_head(params: Params, choice: str) -> None:
    """Raise a UserError where the head does not adapt, so that it would stay where it starts."""
    if not any(name.startswith(HEAD) for name in params):
        raise UserError(f"algorithm.head_init={choice} needs a head that adapts; take algorithm/adapted=all or head")
