"""Published numbers as typed data: the ``paper`` block of an experiment, which its records hold, too."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metaloop.problems.metric import Metric


@dataclass(frozen=True)
class Published:
    """A score from a paper, stored in the unit of our scores (accuracies as fractions)."""

    mean: float
    half_width: float | None = None


@dataclass(frozen=True)
class FurtherRow:
    """Another setting in which the same training is tested, and the published score of that setting.

    Attributes:
        table: the paper's table and row, or what the setting is.
        published: the published score; None if the paper has none.
        overrides: overrides of ``metaloop evaluate``; empty for a row that the run's own meta-test has, see ``step``.
        step: inner steps after which the number was measured; None for all.
        mark, tolerance: as in :class:`Paper`; None for the block's.
    """

    table: str
    published: Published | None = None
    overrides: tuple[str, ...] = ()
    step: int | None = None
    mark: str | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Paper:
    """The ``paper`` block of an experiment: the published number that it reproduces.

    Attributes:
        citation, table: the paper, and the table that holds the number.
        published: the published score; None if the paper has numbers of further rows alone, see ``also``.
        mark: how the number was verified, a key of :data:`metaloop.report.paper.MARKS`.
        tolerance: largest difference that counts as reproduced, in the unit of the stored score.
        metric: name of a standard metric, or a whole metric; None for the run's own.
        step: inner steps after which the number was measured; None for all.
        deviations: differences from the paper's set-up, with reasons.
        cause: the likeliest cause, if our number is off; None if it is not, or nobody looked for it.
        tried: what was tried to find it, with what came of it.
        also: further rows of the same training, by a short name.
    """

    citation: str
    table: str
    published: Published | None
    mark: str
    tolerance: float
    metric: str | Metric | None = None
    step: int | None = None
    deviations: tuple[str, ...] = ()
    cause: str | None = None
    tried: tuple[str, ...] = ()
    also: Mapping[str, FurtherRow] = field(default_factory=dict)
