"""Where a task's head starts."""

from abc import ABC, abstractmethod

import torch

from metaloop.errors import UserError
from metaloop.inner.adapted import HEAD
from metaloop.types import Params


class HeadInit(ABC):
    """The head's parameters at the start of a task, a differentiable function of the learned ones."""

    @abstractmethod
    def start(self, params: Params) -> Params:
        """``params`` (adapted parameters by name) with the head's entries as they start."""


class Learned(HeadInit):
    """The head starts where the outer loop left it, as in MAML."""

    def start(self, params: Params) -> Params:
        """See :meth:`HeadInit.start`."""
        return params


class Zero(HeadInit):
    """The head starts at zero in every task (Kao et al. 2022, "zeroing trick"), so that no class is preferred."""

    def start(self, params: Params) -> Params:
        """See :meth:`HeadInit.start`.

        Raises:
            UserError: the head does not adapt, so that it would stay at zero.
        """
        if not any(name.startswith(HEAD) for name in params):
            raise UserError("algorithm.head_init=zero needs a head that adapts; take algorithm/adapted=all or head")
        return {name: torch.zeros_like(value) if name.startswith(HEAD) else value for name, value in params.items()}
