"""Training regimes of metric learners: episodes, classification of all meta-training classes, or no training."""

from dataclasses import dataclass

from metaloop.errors import UserError


@dataclass(frozen=True)
class Regime:
    """Classification of all meta-training classes for some outer steps, then episodes.

    Episodes only are the usual training of metric learners. Classification only is that of Wang et al. 2019 (SimpleShot), and
    one after the other that of Chen et al. 2021 (Meta-Baseline). Validation and test always use episodes.

    Attributes:
        classification_steps: number of outer steps that classify: 0 for none, None for all.
        learns: whether anything is trained. If not, the embedding stays as it was loaded, whatever the outer optimizer.
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
        """Whether the outer step after the first ``outer_step`` ones classifies."""
        return self.classification_steps is None or outer_step < self.classification_steps
