"""Curves of one or more rows: learning over outer steps, adaptation over inner steps or episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from metaloop.problems.metric import Metric
from metaloop.records.runs import Run
from metaloop.records.schema import CurvePoint
from metaloop.records.tables import Array, Columns
from metaloop.report import formats
from metaloop.report.figures.theme import Look, Theme, curve_look, legend, new_figure, titles
from metaloop.report.tables.rows import Row

_MARKED = 30  # most points of a curve over inner steps that have a mark each
COLORED = 10  # rows with a color of their own; further rows are thin and gray
_LOG_RATIO = 20.0  # errors that span more than this are drawn on a logarithmic axis
_CURVES = {  # name in metrics.csv: (label, palette number of a figure of one run)
    "train/loss": ("meta-train", 0),
    "validation/loss": ("meta-validation, adapted", 1),
    "train/score": ("meta-train", 0),
    "validation/score": ("meta-validation, adapted", 1),
    "validation/score_before": ("meta-validation, before adaptation", 6),
}


def learning_curves(rows: Sequence[Row], theme: Theme) -> Figure | None:
    """Draw loss and score over outer steps, for rows with the same metric; None if no run logged any.

    For one row, all its curves are drawn. For several rows, these are the smoothed meta-train loss and the meta-validation
    score, with one color per row and one line per seed. Of more than ``COLORED`` rows only the first have colors, and each
    row is one line, the mean over its seeds. Bands are intervals over meta-validation episodes.
    """
    rows = [row for row in rows if any(run.metrics for run in row.runs)]
    if not rows:
        return None
    single, metric = len(rows) == 1, rows[0].metric
    loss = ("train/loss", "validation/loss") if single else ("train/loss",)
    score = ("train/score", "validation/score", "validation/score_before") if single else ("validation/score",)
    panels = [(loss, "loss", 1.0), (score, metric.heading, metric.scale)]
    if single and all(_loss_is_score(run) for run in rows[0].runs):
        panels = panels[1:]
    panels = [panel for panel in panels if any(_is_curve(row, panel[0]) for row in rows)]
    if not panels:
        return None
    figure, axes = new_figure(theme, len(panels), (3.75 * len(panels) if len(panels) > 1 else 4.9, 3.0))
    drawn: dict[str, Line2D] = {}
    for ax, (names, label, scale) in zip(axes, panels, strict=True):
        _draw_rest(ax, rows[COLORED:], names[0], scale, theme)
        merged = len(rows) > COLORED
        looks = _looks(rows[:COLORED], names, theme)
        handles = [_draw(ax, row, name, look, scale, single, merged) for row, name, look in looks]
        titles(ax, theme, "outer step", label)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        _error_scale(ax, metric)
        drawn |= {str(handle.get_label()): handle for handle in handles if handle}
    if single:
        legend(figure, theme, list(drawn.values()), list(drawn))
    else:
        _row_legend(figure, rows, theme)
    return figure


@dataclass(frozen=True)
class _Panel:
    """One pair of axes of :func:`adaptation_curves`.

    Attributes:
        over: what its steps are, in the singular.
        title: of the vertical axis.
        points: the points of a run; none for a run that it does not show.
    """

    over: str
    title: str
    points: Callable[[Run], Sequence[CurvePoint]]


def adaptation_curves(rows: Sequence[Row], theme: Theme) -> Figure | None:
    """Draw the meta-test score over inner steps with its interval; None if no run adapts in steps.

    For learners that act, it is the total reward over episodes, beside the return of each episode. What counts other steps has
    axes of its own. For one row, its baseline is drawn too. Of more than ``COLORED`` rows, only the first seed of each is
    drawn. A run without inner steps is a single mark. Bands are intervals over episodes.
    """
    rows = [row for row in rows if row.first.test.curve]
    if not any(len(run.test.curve) > 1 for row in rows for run in row.runs):
        return None
    panels = _panels(rows)
    figure, axes = new_figure(theme, len(panels), (3.75 * len(panels) if len(panels) > 1 else 4.9, 3.0))
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, rows, theme)
    if len(rows) == 1:
        _draw_baseline(figure, rows[0].first, rows[0].metric.scale, theme)
    else:
        _row_legend(figure, rows, theme)
    return figure


def _curve_over(kind: str, run: Run) -> Sequence[CurvePoint]:
    """The curve of a run whose steps are of this kind; none of another."""
    return run.test.curve if run.test.curve_over == kind else ()


def _panels(rows: Sequence[Row]) -> list[_Panel]:
    metric = rows[0].metric
    kinds = dict.fromkeys(row.first.test.curve_over for row in rows)
    panels = [_Panel(kind, metric.heading, partial(_curve_over, kind)) for kind in kinds]
    if any(len(_returns(row.first)) > 1 for row in rows):
        panels.append(_Panel("episode", "return of an episode", _returns))
    return panels


def _returns(run: Run) -> Sequence[CurvePoint]:
    """The returns of a learner that learns from episode to episode; those of inner steps play all with one policy."""
    return run.test.returns if run.test.curve_over == "episode" else ()


def _draw_panel(ax: Axes, panel: _Panel, rows: Sequence[Row], theme: Theme) -> None:
    metric = rows[0].metric
    for number, row in enumerate(rows[:COLORED]):
        for run in row.runs if len(rows) <= COLORED else row.runs[:1]:
            _draw_adaptation(ax, run, panel, curve_look(theme, number), theme)
    rest = [panel.points(row.first) for row in rows[COLORED:]]
    lines = [[(point.step, metric.scale * point.mean) for point in curve] for curve in rest if curve]
    ax.add_collection(LineCollection(lines, colors=theme.muted, linewidths=0.6, alpha=0.3))
    ax.autoscale_view()
    titles(ax, theme, panel.over, panel.title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _error_scale(ax, metric)


def _loss_is_score(run: Run) -> bool:
    """Whether loss and score are the same numbers, as for a regression, where both are the squared error."""
    loss, score = (run.metrics.get(f"train/{name}") for name in ("loss", "score"))
    return loss is not None and score is not None and np.array_equal(loss[1], score[1], equal_nan=True)


def _is_curve(row: Row, names: Sequence[str]) -> bool:
    """Whether a run logged one of these more than once."""
    return any(name in run.metrics and len(run.metrics[name][0]) > 1 for run in row.runs for name in names)


def _looks(rows: Sequence[Row], names: Sequence[str], theme: Theme) -> list[tuple[Row, str, Look]]:
    if len(rows) == 1:
        return [(rows[0], name, (theme.palette[_CURVES[name][1]], "-")) for name in names]
    return [(row, name, curve_look(theme, i)) for i, row in enumerate(rows) for name in names]


def _draw(ax: Axes, row: Row, name: str, look: Look, scale: float, raw: bool, merged: bool) -> Line2D | None:
    """Draw the curve of each seed, or their mean (``merged``).

    Training curves are smoothed; with ``raw``, the logged values are drawn behind them.
    """
    color, dashes = look
    last, label = None, _CURVES[name][0]
    for metrics in _merged(row, name) if merged else [run.metrics for run in row.runs]:
        if name not in metrics:
            continue
        steps, values = metrics[name]
        window = max(1, len(values) // 25) if name.startswith("train/") else 1
        if window > 1 and raw:
            ax.plot(steps, scale * values, color=color, alpha=0.22, linewidth=0.8)
        smooth = _running_mean(values, window)
        if name == "validation/score" and "validation/half_width" in metrics:
            half = metrics["validation/half_width"][1]
            if len(half) == len(values):
                ax.fill_between(steps, scale * (values - half), scale * (values + half), color=color, alpha=0.13, linewidth=0)
        sparse = name.startswith("validation/") and len(steps) <= 30
        (last,) = ax.plot(
            steps, scale * smooth, dashes, color=color, linewidth=1.7, marker="o" if sparse else "", markersize=3.2
        )
        last.set_label(f"{label} (running mean of {window})" if window > 1 else label)
    return last


def _merged(row: Row, name: str) -> list[Columns]:
    """Mean curve over the seeds, cut to the length that all of them logged."""
    curves = [run.metrics[name] for run in row.runs if name in run.metrics]
    if not curves:
        return []
    length = min(len(steps) for steps, _ in curves)
    return [{name: (curves[0][0][:length], np.mean([values[:length] for _, values in curves], axis=0))}]


def _draw_rest(ax: Axes, rows: Sequence[Row], name: str, scale: float, theme: Theme) -> None:
    """Draw the rows without a color of their own as one artist, which is fast for hundreds of rows."""
    curves = [metrics[name] for row in rows for metrics in _merged(row, name)]
    lines = [np.column_stack([steps, scale * _running_mean(values, max(1, len(values) // 25))]) for steps, values in curves]
    ax.add_collection(LineCollection(lines, colors=theme.muted, linewidths=0.6, alpha=0.3))
    ax.autoscale_view()


def _running_mean(values: Array, window: int) -> Array:
    """Mean of the finite values in a window around every point; the window is shorter at the ends."""
    finite = np.isfinite(values)
    sums, counts = (np.cumsum(np.concatenate([[0.0], part])) for part in (np.where(finite, values, 0.0), finite))
    low = np.maximum(np.arange(len(values)) - window // 2, 0)
    high = np.minimum(np.arange(len(values)) + (window + 1) // 2, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((sums[high] - sums[low]) / (counts[high] - counts[low]))


def _draw_adaptation(ax: Axes, run: Run, panel: _Panel, look: Look, theme: Theme) -> None:
    (color, dashes), points, scale = look, panel.points(run), run.metric.scale
    if not points:
        return
    steps = np.array([point.step for point in points])
    means = scale * np.array([point.mean for point in points], float)
    widths = scale * np.array([point.half_width or 0.0 for point in points], float)
    ax.fill_between(steps, means - widths, means + widths, color=color, alpha=0.2, linewidth=0)
    ax.plot(steps, means, dashes, color=color, linewidth=1.7, marker="o" if len(steps) <= _MARKED else "", markersize=4)
    chosen = steps == run.test.steps
    if len(steps) > 1 and points is run.test.curve:
        ax.plot(steps[chosen], means[chosen], "o", color=theme.surface, markeredgecolor=color, markersize=7.5)


def _draw_baseline(figure: Figure, run: Run, scale: float, theme: Theme) -> None:
    """Draw the baseline as a line, and the legend of a figure of one run."""
    level = f"{formats.percent(run.test.level)} interval over {run.test.episodes} episodes"
    handles, labels = [Line2D([], [], color=theme.palette[0], linewidth=6, alpha=0.35)], [level]
    if run.test.steps is not None:
        ring = Line2D([], [], linestyle="", marker="o", color=theme.surface, markersize=7.5)
        ring.set_markeredgecolor(theme.palette[0])
        handles.append(ring)
        labels.append(f"reported score ({run.test.curve_over} {run.test.steps})")
    baseline = run.test.baseline
    if baseline:
        handles.append(figure.axes[0].axhline(scale * baseline.mean, color=theme.palette[1], linestyle="--", linewidth=1.3))
        labels.append(baseline.name)
    legend(figure, theme, handles, labels)


def _error_scale(ax: Axes, metric: Metric) -> None:
    """Make the axis logarithmic for scores that are positive, unbounded above and spread widely, such as errors and times."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    if metric.bounds == (0.0, None) and low > 0 and high / low > _LOG_RATIO:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())


def _row_legend(figure: Figure, rows: Sequence[Row], theme: Theme) -> None:
    looks = [curve_look(theme, number) for number in range(len(rows[:COLORED]))]
    handles = [Line2D([], [], color=color, linestyle=dashes, linewidth=2) for color, dashes in looks]
    labels = [row.label for row in rows[:COLORED]]
    if len(rows) > COLORED:
        handles.append(Line2D([], [], color=theme.muted, linewidth=0.8, alpha=0.6))
        labels.append(f"{len(rows) - COLORED} more")
    legend(figure, theme, handles, labels)
