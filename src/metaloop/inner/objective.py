"""Objectives: the inner iterates whose query losses make up the outer loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from metaloop.errors import UserError


class Objective(ABC):
    """Weights of the query losses at the inner iterates."""

    @abstractmethod
    def weights(self, steps: int, outer_step: int) -> tuple[float, ...]:
        """Return ``steps + 1`` weights at an outer step: of the start and of the iterate after each step; they sum to one."""


class LastStep(Objective):
    """Only the adapted parameters count, as in MAML."""

    def weights(self, steps: int, outer_step: int) -> tuple[float, ...]:
        """See :meth:`Objective.weights`."""
        return (0.0,) * steps + (1.0,)


class WeightedSum(Objective):
    """A weighted mean over the iterates after each step (Antoniou et al. 2019, section 3 of MAML++, without the annealing).

    Args:
        step_weights: one number of at least 0 for each step, divided by their sum; None for equal weights.
    """

    def __init__(self, step_weights: Sequence[float] | None = None) -> None:
        if step_weights is not None and (min(step_weights, default=-1.0) < 0 or sum(step_weights) <= 0):
            raise UserError(f"algorithm.objective.step_weights={list(step_weights)}: numbers of at least 0, not all 0")
        self.step_weights = None if step_weights is None else tuple(float(weight) for weight in step_weights)

    def weights(self, steps: int, outer_step: int) -> tuple[float, ...]:
        """See :meth:`Objective.weights`."""
        chosen = self.step_weights or (1.0,) * steps
        if len(chosen) != steps:
            raise UserError(
                f"algorithm.objective.step_weights has {len(chosen)} numbers for algorithm.steps={steps}; give one per step"
            )
        return (0.0, *(weight / sum(chosen) for weight in chosen))


class AnnealedSum(Objective):
    """Annealing from equal weights to the last step alone (multi-step loss, MAML++, Antoniou et al. 2019, section 4).

    The weights move linearly in equal stages, so that a compiled function or a timing serves all outer steps of its stage; the
    paper changes the weights once an epoch, and its code keeps those of earlier steps at least at 0.03 divided by the number of
    steps until the annealing ends, which is ``floor``.

    Args:
        until: number of outer steps after which only the last step counts; 10 epochs of 500 in the paper's Omniglot runs.
        stages: number of changes of the weights until then.
        floor: least weight of an earlier step until then, times the number of steps; from 0 to below 1.
    """

    def __init__(self, until: int, stages: int = 10, floor: float = 0.0) -> None:
        if until < 0:
            raise UserError(f"algorithm.objective.until={until}: outer steps, at least 0")
        if stages < 1:
            raise UserError(f"algorithm.objective.stages={stages}: at least 1")
        if not 0 <= floor < 1:
            raise UserError(f"algorithm.objective.floor={floor}: at least 0 and below 1")
        self.until = until
        self.stages = stages
        self.floor = floor

    def weights(self, steps: int, outer_step: int) -> tuple[float, ...]:
        """See :meth:`Objective.weights`."""
        stage = self.stages if outer_step >= self.until else outer_step * self.stages // self.until
        each = (max(1 - stage / self.stages, self.floor) if stage < self.stages else 0.0) / steps
        return (0.0, *(each,) * (steps - 1), 1 - each * (steps - 1))


class Start(Objective):
    """Only the start counts, without adaptation in meta-training: joint training on all tasks, the multi-task baseline."""

    def weights(self, steps: int, outer_step: int) -> tuple[float, ...]:
        """See :meth:`Objective.weights`."""
        return (1.0,) + (0.0,) * steps
