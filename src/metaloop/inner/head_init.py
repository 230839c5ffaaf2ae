"""Where a task's head starts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.noise import normal, task_number
from metaloop.inner.selection.adapted import HEAD
from metaloop.types import Examples, Params

Features = Callable[[Params], Tensor]
WEIGHT, BIAS = f"{HEAD}weight", f"{HEAD}bias"
STREAM = 1  # of the random numbers within a task, see :mod:`metaloop.inner.noise`


class HeadInit(ABC):
    """The head's parameters at the start of a task, a differentiable function of the learned ones.

    Attributes:
        classification: whether it is made of classes, so that tasks of regression cannot start so.
        redraws: whether all adapted parameters start elsewhere than where they are, so that they have nothing to learn.
    """

    classification: ClassVar[bool] = False
    redraws: ClassVar[bool] = False

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


class FromPrototypes(HeadInit):
    """The head starts as the prototype classifier of the support set (Proto-MAML, Triantafillou et al. 2020, section 3).

    ``w_k = 2 c_k`` and ``b_k = -|c_k|^2`` with ``c_k`` class k's mean feature: up to a term that is the same for all classes,
    the logits are minus the squared distances to the prototypes. The features are differentiated through, as the authors do.
    Rows of classes without a real support example, and of ways that the task does not have, start at zero; they never win,
    see :func:`metaloop.problems.task_loss.without_absent_classes`. The learned head is not used.
    """

    classification = True

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`."""
        require_linear_head(params, "prototypes")
        if BIAS not in params:
            raise UserError("algorithm.head_init=prototypes needs a head with a bias that adapts")

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        seen = features(params)
        members = torch.arange(len(params[WEIGHT]), device=seen.device)[:, None] == support.y
        if support.mask is not None:
            members = members & support.mask
        belongs = members.to(seen.dtype)
        # What stands in padding must not matter, and zero times infinity would.
        real = seen if support.mask is None else torch.where(support.mask[:, None], seen, 0.0)
        prototypes = belongs @ real / belongs.sum(1, keepdim=True).clamp(min=1)
        return {**params, WEIGHT: 2 * prototypes, BIAS: -(prototypes**2).sum(1)}


class Shared(HeadInit):
    """Every class starts from one and the same vector (UNICORN-MAML, Ye and Chao 2022), so that their order cannot matter.

    The paper learns that one vector; ours is the mean of the learned head's rows, which is as free, so that the head keeps its
    shape and another start can be compared. The bias likewise.
    """

    classification = True

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`."""
        require_linear_head(params, "shared")

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        return {n: v.mean(0, keepdim=True).expand_as(v) if n.startswith(HEAD) else v for n, v in params.items()}


class Fresh(HeadInit):
    """Head and all: every adapted parameter starts each task at a new random draw, as training from scratch does.

    For learned optimisers and the baseline of learning from scratch. A tensor's numbers are normal around zero with the root
    mean square of its initial numbers; a tensor of equal numbers (ones, zeros) starts as it is. The parameters themselves keep
    their initial numbers: they are no meta-parameters. The draws are a function of the task's number.
    """

    redraws = True

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`; every composition works."""

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        like = next(iter(params.values()))
        sizes = [value.numel() for value in params.values()]
        draws = normal(task_number(support), STREAM, (sum(sizes),), like.dtype).split(sizes)
        fresh = {}
        for (name, value), draw in zip(params.items(), draws, strict=True):
            initial = value.detach()
            drawn = (initial**2).mean().sqrt() * draw.view(value.shape)
            fresh[name] = torch.where((initial == initial.amax()).all(), initial, drawn)
        return fresh


def require_head(params: Params, choice: str) -> None:
    """Raise a UserError where the head does not adapt, so that it would stay where it starts."""
    if not any(name.startswith(HEAD) for name in params):
        raise UserError(f"algorithm.head_init={choice} needs a head that adapts; take algorithm/adapted=all or head")


def require_linear_head(params: Params, choice: str) -> None:
    """Raise a UserError where the head is not one linear layer that adapts."""
    require_head(params, choice)
    own = {name for name in params if name.startswith(HEAD)}
    if WEIGHT not in own or own - {WEIGHT, BIAS} or params[WEIGHT].ndim != 2:
        raise UserError(
            f"algorithm.head_init={choice} needs a head that is one linear layer, weight included; adapted of the head are "
            + ", ".join(sorted(own))
        )
