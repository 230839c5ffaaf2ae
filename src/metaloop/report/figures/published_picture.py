"""The picture above the table of published numbers: one dot a row, ours against theirs, intervals both ways.

It is written as text, not drawn by matplotlib, so that the same records give the same file everywhere.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from metaloop.problems.metric import Metric
from metaloop.report.tables.published import PublishedRow

_SIDE, _LEFT, _TOP, _BELOW = 330, 70, 46, 54  # pixels: a panel's side, and the margins around it
_COLUMNS = 2  # panels beside each other
_GOOD, _NEAR, _OFF = "#1b7837", "#e08214", "#d6604d"  # inside or better; within the tolerance; worse
_WIDEN, _MARGIN = 1.25, 0.06  # of the range of an axis, to either side: a factor if it is logarithmic, or a share
_LONG = 10.0  # ratio of the largest to the least value from which positive scores have a logarithmic axis
_TICKS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))  # times 10**n
_FEW = 4  # least ticks, where there are as many round numbers
_LEAST = 1e-4  # least error that is shown, as a share


@dataclass(frozen=True)
class _Scale:
    """What a panel shows: a title, the shown value of a stored score, whether it is an error, which has a logarithmic axis."""

    title: str
    value: Callable[[float], float]
    error: bool
    better: str  # where ours is better: below or above the diagonal


@dataclass(frozen=True)
class _Axis:
    """Both axes of a panel: their ends, and whether they are logarithmic."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], error: bool) -> "_Axis":
        """The axis that shows these values."""
        low, high = min(values), max(values)
        if error or (low > 0 and high / low >= _LONG):
            return cls(low / _WIDEN, high * _WIDEN, True)
        margin = _MARGIN * ((high - low) or abs(high) or 1.0)
        return cls(low - margin, high + margin, False)

    def share(self, value: float) -> float:
        """Where a value stands between the ends, from 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the range."""
        if self.logarithmic:
            return _ticks(self.low, self.high)
        rough = (self.high - self.low) / _FEW
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(each * power for each in (5, 2, 1) if each * power <= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Dot:
    """A row as shown values: (low, middle, high) published and measured."""

    label: str
    published: tuple[float, float, float]
    measured: tuple[float, float, float]
    colour: str
    certain: bool


def published_svg(rows: Sequence[PublishedRow]) -> str | None:
    """Draw the rows that have both numbers, one panel for each metric; None if there are none."""
    panels: dict[Metric, list[_Dot]] = {}
    for row in rows:
        if row.comparison is not None:
            panels.setdefault(row.comparison.metric, []).append(_dot(row))
    if not panels:
        return None
    ordered = sorted(panels, key=lambda metric: metric.name)
    lines, columns = math.ceil(len(ordered) / _COLUMNS), min(len(ordered), _COLUMNS)
    width, height = _LEFT + (_SIDE + _LEFT) * columns, (_TOP + _SIDE + _BELOW) * lines
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, metric in enumerate(ordered):
        line, column = divmod(number, _COLUMNS)
        top = _TOP + (_TOP + _SIDE + _BELOW) * line
        parts += _panel(_scale(metric), panels[metric], _LEFT + (_SIDE + _LEFT) * column, top)
    return "\n".join([*parts, "</svg>", ""])


def _scale(metric: Metric) -> _Scale:
    """Shares as errors in percent, and other scores as they are."""
    if metric.bounds == (0.0, 1.0) and metric.higher_is_better:
        return _Scale(f"error: 100 − {metric.title} (%)", lambda score: 100 * max(1 - score, _LEAST), True, "below")
    low = metric.bounds[0]
    if not metric.higher_is_better and low is not None and low >= 0:
        return _Scale(metric.heading, lambda score: max(metric.shown(score), _LEAST), True, "below")
    return _Scale(metric.heading, metric.shown, False, "above" if metric.higher_is_better else "below")


def _dot(row: PublishedRow) -> _Dot:
    comparison, measured = row.comparison, row.measured
    assert comparison is not None
    assert measured is not None
    scale, published = _scale(comparison.metric), comparison.paper.published
    assert published is not None

    def ends(mean: float, half_width: float | None) -> tuple[float, float, float]:
        low, middle, high = sorted(scale.value(mean + part * (half_width or 0.0)) for part in (-1, 0, 1))
        return low, middle, high

    colour = _GOOD if row.good else _NEAR if comparison.within else _OFF
    certain = comparison.paper.mark != "M"
    return _Dot(row.label, ends(published.mean, published.half_width), ends(*measured), colour, certain)


def _panel(scale: _Scale, dots: Sequence[_Dot], left: float, top: float) -> Iterator[str]:
    axis = _Axis.around([value for dot in dots for value in (*dot.published, *dot.measured)], scale.error)
    bottom = top + _SIDE

    def x(value: float) -> float:
        return left + _SIDE * axis.share(value)

    def y(value: float) -> float:
        return bottom - _SIDE * axis.share(value)

    yield f'<text x="{left}" y="{top - 26}" font-size="14" font-weight="bold">{escape(scale.title)}</text>'
    yield f'<text x="{left}" y="{top - 9}" fill="#555">{scale.better} the line, ours is better</text>'
    yield f'<rect x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#888"/>'
    yield f'<line x1="{left}" y1="{bottom}" x2="{left + _SIDE}" y2="{top}" stroke="#bbb"/>'
    for tick in axis.ticks:
        yield f'<line x1="{x(tick):.1f}" y1="{bottom}" x2="{x(tick):.1f}" y2="{bottom + 4}" stroke="#888"/>'
        yield f'<text x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{_number(tick)}</text>'
        yield f'<line x1="{left - 4}" y1="{y(tick):.1f}" x2="{left}" y2="{y(tick):.1f}" stroke="#888"/>'
        yield f'<text x="{left - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
    yield f'<text x="{left + _SIDE / 2}" y="{bottom + 38}" text-anchor="middle">published</text>'
    middle = top + _SIDE / 2
    yield f'<text transform="translate({left - 46} {middle}) rotate(-90)" text-anchor="middle">measured</text>'
    for dot in dots:
        colour = dot.colour
        (x0, x1, x2), (y0, y1, y2) = map(x, dot.published), map(y, dot.measured)
        yield f'<line x1="{x0:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y1:.1f}" stroke="{colour}"/>'
        yield f'<line x1="{x1:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
        fill = colour if dot.certain else "white"
        circle = f'cx="{x1:.1f}" cy="{y1:.1f}" r="4" fill="{fill}" stroke="{colour}"'
        yield f"<circle {circle}><title>{escape(dot.label)}</title></circle>"


def _number(tick: float) -> str:
    return f"{tick:g}".replace("-", "−")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, of about equal distances on a logarithmic axis: the roundest of which there are enough."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in _TICKS:
        ticks = [value for power in powers for step in steps if low <= (value := round(step * 10.0**power, 12)) <= high]
        if len(ticks) >= _FEW:
            break
    return ticks
