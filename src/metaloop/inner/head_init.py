"""Choices of the head's parameters at the start of a task."""

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
WEIGHT, BIAS, CENTER = f"{HEAD}weight", f"{HEAD}bias", f"{HEAD}center"
STREAM = 1  # stream of the random numbers within a task, see :mod:`metaloop.inner.noise`


class HeadInit(ABC):
    """The head's parameters at the start of a task, a differentiable function of the learned ones.

    Attributes:
        classification: whether it needs classes, so that regression tasks cannot use it.
        redraws: whether every task replaces all adapted parameters by new draws, so that they are not meta-learned.
    """

    classification: ClassVar[bool] = False
    redraws: ClassVar[bool] = False

    @abstractmethod
    def check(self, params: Params) -> None:
        """Raise a UserError before training starts if this choice does not fit the adapted parameters."""

    @abstractmethod
    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """Return ``params`` with the head's entries at their start.

        Args:
            params: the adapted parameters by name, as the outer loop left them.
            support: support set of one task.
            features: maps ``params`` to the head's input on the support set, (examples, features).
        """


class Learned(HeadInit):
    """The head starts where the outer loop left it, as in MAML."""

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`; every composition is allowed."""

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        return params


class Zero(HeadInit):
    """The head starts every task at zero (Kao et al. 2022, "zeroing trick"), so that no class is preferred."""

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`."""
        require_head(params, "zero")

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        return {name: torch.zeros_like(value) if name.startswith(HEAD) else value for name, value in params.items()}


class FromPrototypes(HeadInit):
    """The head starts as the prototype classifier of the support set (Proto-MAML, Triantafillou et al. 2020, section 3).

    ``w_k = 2 c_k`` and ``b_k = -|c_k|^2`` with ``c_k`` class k's mean feature: up to a term that is the same for all classes,
    the logits are minus the squared distances to the prototypes. Gradients flow through the features, as in the authors' code.
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
        support_features = features(params)
        members = torch.arange(len(params[WEIGHT]), device=support_features.device)[:, None] == support.y
        if support.mask is not None:
            members = members & support.mask
        membership = members.to(support_features.dtype)
        # Padding must not count, even if it is infinite: zero times infinity is NaN.
        real = support_features if support.mask is None else torch.where(support.mask[:, None], support_features, 0.0)
        prototypes = membership @ real / membership.sum(1, keepdim=True).clamp(min=1)
        return {**params, WEIGHT: 2 * prototypes, BIAS: -(prototypes**2).sum(1)}


class Center(HeadInit):
    """The centre of a head of distances starts at the mean feature of the inliers (Ruff et al. 2018 and 2020, Deep SAD).

    Targets are 1 for labelled anomalies and 0 for all others, which count as inliers. The paper computes the centre once, by
    the network before it is trained; here that is each task's start. It keeps components away from 0, where a unit could make
    itself 0 for all rows; here every task starts from weights that have been learned, so this is left out.
    """

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`."""
        if CENTER not in params:
            raise UserError(
                r"algorithm/head_init=center needs a head of distances whose centre adapts; take model=sphere, and "
                r"algorithm/adapted=pattern with algorithm.adapted.pattern='^layers\.|^head\.center$'"
            )

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        support_features = features(params)
        inlier = support.y.flatten(1)[:, 0] < 0.5
        if support.mask is not None:
            inlier = inlier & support.mask
        # Padding must not count, even if it is infinite: zero times infinity is NaN.
        real = torch.where(inlier[:, None], support_features, 0.0)
        return {**params, CENTER: (real.sum(0) / inlier.sum().clamp(min=1)).expand_as(params[CENTER])}


class Shared(HeadInit):
    """Every class starts from the same vector (UNICORN-MAML, Ye and Chao 2022), so that the order of classes cannot matter.

    The paper learns that one vector. Ours is the mean of the learned head's rows, which is just as free, so that the head
    keeps its shape and starts can be compared on one model. The bias is treated likewise.
    """

    classification = True

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`."""
        require_linear_head(params, "shared")

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        return {n: v.mean(0, keepdim=True).expand_as(v) if n.startswith(HEAD) else v for n, v in params.items()}


class Fresh(HeadInit):
    """Every adapted parameter, in the head or not, starts each task at a new random draw, as in training from scratch.

    It serves learned optimisers and the baseline of learning from scratch. A tensor's numbers are drawn normal around zero
    with the root mean square of its initial numbers; a tensor of equal numbers (ones, zeros) keeps them. The parameters
    themselves are not meta-parameters and keep their initial numbers. The draws are a function of the task's number.
    """

    redraws = True

    def check(self, params: Params) -> None:
        """See :meth:`HeadInit.check`; every composition is allowed."""

    def start(self, params: Params, support: Examples, features: Features) -> Params:
        """See :meth:`HeadInit.start`."""
        like = next(iter(params.values()))
        sizes = [value.numel() for value in params.values()]
        draws = torch.split(normal(task_number(support), STREAM, (sum(sizes),), like.dtype), sizes)
        fresh = {}
        for (name, value), draw in zip(params.items(), draws, strict=True):
            initial = value.detach()
            drawn = (initial**2).mean().sqrt() * draw.view(value.shape)
            fresh[name] = torch.where((initial == initial.amax()).all(), initial, drawn)
        return fresh


def require_head(params: Params, choice: str) -> None:
    """Raise a UserError if the head does not adapt, so that it would never leave its start."""
    if not any(name.startswith(HEAD) for name in params):
        raise UserError(f"algorithm.head_init={choice} needs a head that adapts; take algorithm/adapted=all or head")


def require_linear_head(params: Params, choice: str) -> None:
    """Raise a UserError unless the head is one linear layer that adapts."""
    require_head(params, choice)
    adapted = {name for name in params if name.startswith(HEAD)}
    if WEIGHT not in adapted or adapted - {WEIGHT, BIAS} or params[WEIGHT].ndim != 2:
        raise UserError(
            f"algorithm.head_init={choice} needs a head that is one linear layer whose weight adapts; the head's adapted "
            f"parameters are {', '.join(sorted(adapted))}; take algorithm/head_init=learned"
        )
