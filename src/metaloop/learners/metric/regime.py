"""What a metric learner is trained with: episodes, or all training classes at once."""

from dataclasses import dataclass

from metaloop.errors import UserError


@dataclass(frozen=True)
class Regime:
    """Classification of all meta-training classes for some outer steps, episodes from then on.

    Episodes alone are the metric learners' own way, classification alone that of Wang et al. 2019 (SimpleShot), and one after
    the other that of Chen et al. 2021 (Meta-Baseline). At validation and test there are episodes in any case.

    Attributes:
        classification_steps: how many outer steps see all classes: 0 for none, None for all.
        learns: whether anything is trained at all; where not, the embedding stays as it came, whatever the outer optimiser.
    """

    classification_steps: int | None = 0
    learns: bool = True

    def __post_init__(self) -> None:
        if self.classification_steps is not None and self.classification_steps < 0:
            raise UserError(f"algorithm.regime.classification_steps={self.classification_steps}: at least 0, or null for all")

    @property
    def ever(self) -> bool:
        """Whether any outer step classifies."""
        return self.classification_steps != 0

    @property
    def always(self) -> bool:
        """Whether all outer steps classify."""
        return self.classification_steps is None

    def classifies(self, outer_step: int) -> bool:
        """Whether the step after ``outer_step`` others does."""
        return self.classification_steps is None or outer_step < self.classification_steps
