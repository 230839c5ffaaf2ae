"""Figures of an ablation: main effects, interactions, heat maps, cost against score, ranks over data sets."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from metaloop.metrics.multiple_comparisons import Ranking
from metaloop.report import formats
from metaloop.report.figures.theme import Theme, curve_look, legend, new_figure, titles
from metaloop.report.tables.effects import Interaction, MainEffect
from metaloop.report.tables.facts import Fact, short, show
from metaloop.report.tables.rows import Row

_LONG = 42  # letters that fit below the axis; longer tick labels are slanted


def main_effect_figure(effects: Sequence[MainEffect], theme: Theme, title: str = "") -> Figure | None:
    """Draw a panel for each key: the mean at each value with its interval; all panels have the same scale.

    Args:
        effects: main effects of one metric on one data set and setting of episodes.
        theme: colors of the figure.
        title: title above the first panel.
    """
    if not effects:
        return None
    widths = [max(len(effect.levels), 2) for effect in effects]
    figure, axes = new_figure(theme, len(effects), (1.2 + 0.55 * sum(widths) + 0.9 * len(effects), 3.0), widths)
    scale = effects[0].metric.scale
    for number, (ax, effect) in enumerate(zip(axes, effects, strict=True)):
        means = scale * np.array([each.interval.mean for each in effect.levels])
        half = scale * np.array([each.interval.half_width or 0.0 for each in effect.levels])
        dashes = "-" if all(isinstance(each.value, int | float) for each in effect.levels) else ""  # names have no order
        ax.errorbar(
            range(len(means)), means, half, ls=dashes, color=theme.palette[0], marker="o", markersize=5, lw=1.4, capsize=3
        )
        _name_ticks(ax, [show(each.value) for each in effect.levels])
        titles(ax, theme, short(effect.key), effect.metric.heading if number == 0 else "", title if number == 0 else "")
        ax.set_xlim(-0.4, len(means) - 0.6)
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for number, ax in enumerate(axes):
        ax.set_ylim(low, high)
        ax.tick_params(labelleft=number == 0)
    return figure


def interaction_figure(interaction: Interaction, theme: Theme) -> Figure:
    """Draw a line for each value of one key over the values of the other; parallel lines mean no interaction.

    The key with fewer values gives the lines.
    """
    if len(interaction.rows) > len(interaction.columns):
        interaction = replace(
            interaction,
            keys=(interaction.keys[1], interaction.keys[0]),
            rows=interaction.columns,
            columns=interaction.rows,
            means=interaction.means.T,
        )
    figure, (ax,) = new_figure(theme, 1, (4.6, 3.0))
    scale = interaction.metric.scale
    handles = []
    for number, means in enumerate(interaction.means):
        color, dashes = curve_look(theme, number)
        (line,) = ax.plot(range(len(means)), scale * means, dashes, color=color, marker="o", markersize=4, linewidth=1.6)
        handles.append(line)
    _name_ticks(ax, [show(value) for value in interaction.columns])
    titles(ax, theme, short(interaction.keys[1]), interaction.metric.heading)
    legend(figure, theme, handles, [f"{short(interaction.keys[0])} {show(value)}" for value in interaction.rows])
    return figure


def heat_map(interaction: Interaction, theme: Theme) -> Figure:
    """Draw the mean score at every combination of two keys, with its number; a better score has a stronger color."""
    rows, columns = interaction.means.shape
    figure, (ax,) = new_figure(theme, 1, (1.9 + 0.78 * columns, 1.2 + 0.42 * rows))
    better = interaction.metric.sign * interaction.means
    shades = LinearSegmentedColormap.from_list("score", [theme.surface, theme.palette[0]])
    finite = np.where(np.isfinite(better), better, np.nan)
    ax.imshow(
        finite, cmap=shades, aspect="auto", vmin=np.nanmin(finite) - 0.15 * float(np.ptp(finite[np.isfinite(finite)]) or 1)
    )
    middle = np.nanmin(finite) + 0.6 * (np.nanmax(finite) - np.nanmin(finite))
    for row, column in np.ndindex(rows, columns):
        value = interaction.means[row, column]
        strong = np.isfinite(better[row, column]) and better[row, column] > middle
        text = interaction.metric.number(float(value)) if not np.isnan(value) else formats.NONE
        ax.text(column, row, text, ha="center", va="center", fontsize=8.5, color=theme.surface if strong else theme.text)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    _name_ticks(ax, [show(value) for value in interaction.columns])
    ax.set_yticks(range(rows), [show(value) for value in interaction.rows])
    titles(ax, theme, short(interaction.keys[1]), short(interaction.keys[0]), interaction.metric.heading)
    return figure


def _name_ticks(ax: Axes, names: Sequence[str]) -> None:
    slanted = max(map(len, names)) * len(names) > _LONG
    ax.set_xticks(range(len(names)), names, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    for label in ax.get_xticklabels():
        label.set_parse_math(False)


def pareto(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Indices of the points for which no other has both lower cost and a higher score, by ascending cost."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    front: list[int] = []
    for i in order:
        if not front or scores[i] > scores[front[-1]]:
            front.append(i)
    return front


def cost_figure(rows: Sequence[Row], theme: Theme, title: str = "") -> Figure | None:
    """Draw training time against score, with the numbered Pareto front; None if fewer than two rows were timed.

    Args:
        rows: rows of one metric and one data set.
        theme: colors of the figure.
        title: title above the axes.
    """
    known, front = timed(rows), cost_front(rows)
    if len(known) < 2:
        return None
    metric = known[0].metric
    scale = metric.scale
    costs, scores = [row.training_seconds or 0.0 for row in known], [scale * row.interval.mean for row in known]
    half = [scale * (row.interval.half_width or 0.0) for row in known]
    figure, (ax,) = new_figure(theme, 1, (4.9, 3.2))
    ax.errorbar(costs, scores, half, fmt="o", color=theme.muted, markersize=4, linewidth=0.9, alpha=0.75)
    ends = [(row.training_seconds or 0.0, scale * row.interval.mean) for row in front]
    ax.plot(*zip(*ends, strict=True), "-o", color=theme.palette[1], markersize=6, linewidth=1.3)
    for number, end in enumerate(ends, 1):
        ax.annotate(str(number), end, (-3, 5), textcoords="offset points", ha="right", fontsize=8, color=theme.text)
    if max(costs) > 5 * min(costs):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    titles(ax, theme, "training time (s)", metric.heading, title)
    handles = [Line2D([], [], color=theme.palette[1], marker="o"), Line2D([], [], color=theme.muted, marker="o", linestyle="")]
    legend(figure, theme, handles, ["Pareto front", "all, with intervals"])
    return figure


def timed(rows: Sequence[Row]) -> list[Row]:
    """Rows with a training time and a finite score."""
    return [row for row in rows if row.training_seconds and np.isfinite(row.interval.mean)]


def cost_front(rows: Sequence[Row]) -> list[Row]:
    """Pareto front: rows for which no other is both faster to train and better, the fastest first."""
    known = timed(rows)
    costs, scores = [row.training_seconds or 0.0 for row in known], [row.metric.sign * row.interval.mean for row in known]
    return [known[i] for i in pareto(costs, scores)]


def rank_figure(ranking: Ranking, names: Sequence[Fact], theme: Theme) -> Figure:
    """Draw the critical-difference diagram (Demšar 2006): methods at their mean ranks, and bars over those that do not differ
    significantly.
    """
    count = len(names)
    order = sorted(range(count), key=lambda number: ranking.ranks[number])
    lines = (count + 1) // 2
    figure, (ax,) = new_figure(theme, 1, (8.2, 1.15 + 0.12 * len(ranking.cliques) + 0.24 * lines))
    ax.set_axis_off()
    side = 0.3 * count  # for the names
    ax.set_xlim(0.7 - side, count + 0.3 + side)
    depth = 0.35 * (len(ranking.cliques) + 1)
    ax.set_ylim(-(depth + 0.5 * lines) - 0.2, 1.6)
    ax.plot([1, count], [0, 0], color=theme.text, linewidth=1.2)
    for tick in range(1, count + 1):
        ax.plot([tick, tick], [0, 0.16], color=theme.text, linewidth=1)
        ax.text(tick, 0.25, str(tick), ha="center", fontsize=8, color=theme.muted)
    width = min(ranking.critical_difference, count - 1)
    ax.plot([1, 1 + width], [0.95, 0.95], color=theme.text, linewidth=2)
    ax.text(1, 1.12, f"critical difference {ranking.critical_difference:.2f}", fontsize=8, color=theme.text)
    for number, clique in enumerate(ranking.cliques):
        ends = ranking.ranks[clique[0]], ranking.ranks[clique[-1]]
        ax.plot([ends[0] - 0.04, ends[1] + 0.04], [-0.3 - 0.33 * number] * 2, color=theme.palette[0], linewidth=3.5)
    for place, method in enumerate(order):
        left = place < lines
        y = -depth - 0.5 * (place if left else count - 1 - place) - 0.3
        end = 0.8 if left else count + 0.2
        rank = ranking.ranks[method]
        ax.plot([rank, rank, end], [0, y, y], color=theme.muted, linewidth=0.9)
        label = f"{show(names[method])} ({rank:.2f})"
        aside = -0.06 if left else 0.06
        ax.text(
            end + aside, y, label, ha="right" if left else "left", va="center", fontsize=8.5, color=theme.text, parse_math=False
        )
    return figure
