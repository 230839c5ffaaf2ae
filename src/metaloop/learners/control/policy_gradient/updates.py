"""Outer updates: how the meta-parameters move, given the episodes of a meta-batch before and after adaptation."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.control.policy_gradient.replay import Replay
from metaloop.types import Params


class OuterUpdate(ABC):
    """A way to improve the meta-parameters.

    Attributes:
        passes: outer steps that use the same episodes.
        whole_step: whether :meth:`gradient` is the outer step itself, the parameters before minus those after it.
    """

    passes: int = 1
    whole_step: bool = False

    @abstractmethod
    def gradient(self, replay: Replay, meta: Params) -> Params:
        """Return what the outer optimizer descends, the mean over tasks."""


class ClippedRatio(OuterUpdate):
    """PPO's clipped surrogate of the adapted policies (Schulman et al. 2017, equation 7), differentiated through adaptation.

    With ``penalty`` it is ProMP (Rothfuss et al. 2019, section 6): the divergence of the policies before each inner step from
    those that played is subtracted, and the inner surrogate is that of episodes of the policies that played.

    Args:
        clip: largest relative change of an action's probability that is rewarded; None for no limit, with which one pass
            takes the policy gradient.
        penalty: weight of the divergence, a mean over inner steps, in nats a step. It stays the same in training.
        passes: outer steps in a row that take the same meta-batch with the episodes of the first.
    """

    def __init__(self, clip: float | None, penalty: float, passes: int) -> None:
        if clip is not None and not clip > 0:
            raise UserError(f"algorithm.outer_update.clip={clip}: above 0, or null for no limit")
        if not penalty >= 0:
            raise UserError(f"algorithm.outer_update.penalty={penalty}: at least 0")
        if passes < 1:
            raise UserError(f"algorithm.outer_update.passes={passes}: at least 1")
        self.clip = clip
        self.penalty = penalty
        self.passes = passes

    def gradient(self, replay: Replay, meta: Params) -> Params:
        """See :meth:`OuterUpdate.gradient`."""
        leaves = {name: value.detach().requires_grad_() for name, value in meta.items()}
        with torch.enable_grad():
            losses = self.losses(replay, leaves)
            gradients = torch.autograd.grad(losses.mean(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, gradients, strict=True))

    def losses(self, replay: Replay, meta: Params) -> Tensor:
        """Return the loss of each task (tasks,)."""
        iterates = replay.iterates(meta)
        losses = torch.stack(
            [-visit.weight * self._gain(visit.log_ratio, visit.experience.advantages) for visit in replay.after(meta, iterates)]
        ).sum(0)
        if not self.penalty:
            return losses
        visits = replay.before(meta, iterates)
        return losses + self.penalty * sum(visit.weight * replay.divergence(visit) for visit in visits)

    def _gain(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        gains = log_ratio.exp() * advantages
        if self.clip is not None:
            clipped = log_ratio.exp().clamp(1 - self.clip, 1 + self.clip) * advantages
            gains = torch.minimum(gains, clipped)
        return gains.mean(1)
