"""Metrics: name and unit of a score, and its format in tables, plots and messages."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from metaloop.errors import UserError

MISSING = "–"  # in place of a missing number
DIVERGED = "diverged"  # in place of a number that is not finite
_MINUS = "−"


@dataclass(frozen=True)
class Metric:
    """Description of a score as plain data. Every record holds it, so that a report needs no list of known metrics.

    Attributes:
        name: Identifier, such as ``"accuracy"``; the same for scores that may be compared.
        title: Title above a column or beside an axis, without the unit.
        unit: Unit as it is shown, such as ``"%"`` or ``"nats"``; empty for a score without a unit.
        scale: Factor from the stored score to the shown one; 100 turns a fraction into percent.
        digits: Number of decimals of the shown score.
        higher_is_better: Whether the larger of two scores is the better one.
        bounds: Lowest and highest stored score; None for no bound.

    Raises:
        UserError: a field has a wrong type or value.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 4
    higher_is_better: bool = True
    bounds: tuple[float | None, float | None] = (None, None)

    def __post_init__(self) -> None:
        if not (self.name and self.title):
            raise UserError(f"metric: name={self.name!r} and title={self.title!r} must not be empty")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"metric {self.name!r}: scale={self.scale!r} must be a positive number")
        if not (isinstance(self.digits, int) and 0 <= self.digits <= 12):
            raise UserError(f"metric {self.name!r}: digits={self.digits!r} must be a whole number in [0, 12]")
        low, high = self.bounds
        if low is not None and high is not None and not low < high:
            raise UserError(f"metric {self.name!r}: bounds={self.bounds!r} must be increasing")

    @classmethod
    def percentage(cls, name: str, title: str, *, higher_is_better: bool = True) -> Self:
        """Metric of a share in [0, 1] that is shown in percent."""
        return cls(name, title, unit="%", scale=100.0, digits=2, higher_is_better=higher_is_better, bounds=(0.0, 1.0))

    def as_dict(self) -> dict[str, Any]:
        """The metric as JSON data."""
        return {**asdict(self), "bounds": list(self.bounds)}

    @classmethod
    def from_dict(cls, block: object) -> Self:
        """Read the result of :meth:`as_dict`.

        Raises:
            UserError: a key is missing or unknown, or a value is wrong.
        """
        if not isinstance(block, Mapping):
            raise UserError(f"metric is {block!r}, expected a mapping with name, title, unit, scale, digits, ...")
        try:
            return cls(**{**block, "bounds": tuple(block["bounds"])})
        except (TypeError, KeyError) as error:
            raise UserError(f"metric {dict(block)!r} cannot be read: {error}") from error

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1, so that the better score has the larger ``sign * score``."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def heading(self) -> str:
        """Title and unit for a column or an axis: ``accuracy (%)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def difference_unit(self) -> str:
        """Unit of a difference of two scores; ``points`` for percent."""
        return "points" if self.unit == "%" else self.unit

    def shown(self, value: float) -> float:
        """Convert a stored score to the scale in which it is shown."""
        return self.scale * value

    def number(self, value: float | None) -> str:
        """Format a score or a spread without its unit: ``97.31``, ``−312.5000``, ``3.20e-05``."""
        if value is None:
            return MISSING
        return self._text(value, self._scientific(value)) if math.isfinite(value) else DIVERGED

    def interval(self, mean: float | None, half_width: float | None) -> str:
        """Format a score and the half-width of its interval in the same notation: ``97.31 ± 0.42``.

        Student's t knows no bounds. A half-width that reaches beyond both is shown as the distance to the farther one, so that
        two wildly different values give ``50.00 ± 50.00`` and not ``50.00 ± 635.31``.
        """
        text = self.number(mean)
        if mean is None or half_width is None or not math.isfinite(mean):
            return text
        if not math.isfinite(half_width):
            return f"{text} ± {DIVERGED}"
        low, high = self.bounds
        if low is not None and high is not None and self.in_bounds(mean):
            half_width = min(half_width, max(mean - low, high - mean))
        return f"{text} ± {self._text(half_width, self._scientific(mean))}"

    def with_unit(self, text: str) -> str:
        """Append the unit to a text of :meth:`number`, :meth:`interval` or :meth:`difference`."""
        return f"{text} {self.unit}" if self.unit else text

    def difference(self, value: float | None) -> str:
        """Format a signed difference of two scores: ``+1.20``; a difference that rounds to zero has no sign."""
        if value is None or not math.isfinite(value):
            return self.number(value)
        text = self.number(abs(value))
        if not float(text):
            return text
        return f"{'+' if value > 0 else _MINUS}{text}"

    def in_bounds(self, value: float) -> bool:
        """Whether a stored score is possible."""
        low, high = self.bounds
        return (low is None or value >= low) and (high is None or value <= high)

    def better(self, one: float, other: float) -> bool:
        """Whether ``one`` is the better score."""
        return self.sign * one > self.sign * other

    def _scientific(self, value: float) -> bool:
        """Whether a number is too small for the decimals and is written with an exponent.

        Never for a metric with an upper bound or with at most two decimals: cents and whole seconds are rounded.
        """
        small = value != 0 and abs(self.scale * value) < 10.0 ** (1 - self.digits)
        return small and self.bounds[1] is None and self.digits > 2

    def _text(self, value: float, scientific: bool) -> str:
        shown = abs(self.scale * value)
        text = f"{shown:.2e}" if scientific else f"{shown:.{self.digits}f}"
        return f"{_MINUS}{text}" if value < 0 and float(text) else text


ACCURACY = Metric.percentage("accuracy", "accuracy")
ENTITY_F1 = Metric.percentage("entity_f1", "entity F1")
MEAN_SQUARED_ERROR = Metric("mse", "mean squared error", digits=4, higher_is_better=False, bounds=(0.0, None))
LOG_LIKELIHOOD = Metric("log_likelihood", "log-likelihood of a query", unit="nats", digits=4)
TOTAL_REWARD = Metric("total_reward", "total reward", digits=2)
MEAN_RETURN = Metric("mean_return", "return of an episode", digits=2)
