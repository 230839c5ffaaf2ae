"""RL²: a recurrent policy that learns, by its memory, within a trial (Duan et al. 2016; Wang et al. 2016)."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.control.rollouts import Rollouts
from metaloop.learners.control.memory_policy import ActorCritic, MemoryPolicy
from metaloop.learners.control.proximal import ProximalLearner, ProximalSettings
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss


class RL2(ProximalLearner):
    """A policy with a memory that goes on from episode to episode, meta-trained by PPO on whole trials.

    The authors use TRPO; docs/control.md says what else differs.

    Args:
        model: the embedding of observations, without a head.
        loss: loss of one task.
        actions: actions of the environments.
        memory: builds the memory from the width of its ``inputs``.
        discount, trace, clip, value_weight, entropy, renew, shortest, growing, last_entropy: see :class:`ProximalSettings`.
        deviation: deviation of continuous actions at the start, above 0.
        whole_transitions: whether the memory reads the last observation beside the present one.
    """

    title: ClassVar[str] = "RL²"

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        memory: Callable[..., TrialMemory],
        *,
        discount: float,
        trace: float,
        clip: float,
        value_weight: float,
        entropy: float,
        renew: int,
        shortest: int | None = None,
        growing: int = 0,
        last_entropy: float | None = None,
        deviation: float = 1.0,
        whole_transitions: bool = False,
    ) -> None:
        settings = ProximalSettings(discount, trace, clip, value_weight, entropy, renew, shortest, growing, last_entropy)

        def network(features: int) -> ActorCritic:
            return ActorCritic(features, actions, memory, deviation=deviation, whole_transitions=whole_transitions)

        super().__init__(model, loss, actions, network, settings)

    def policy_of(self, model: nn.Module, network: nn.Module) -> MemoryPolicy:
        """See :meth:`ProximalLearner.policy_of`."""
        assert isinstance(network, ActorCritic)
        return MemoryPolicy(model, network, self.actions)

    def losses(self, rollouts: Rollouts, numbers: Tensor) -> Tensor:
        """See :meth:`ProximalLearner.losses`."""
        return self.surrogate(rollouts)
