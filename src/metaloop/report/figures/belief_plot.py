"""What a policy believed of a task, step by step, as a figure and as a table."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaloop.records.tables import Array
from metaloop.report.figures.theme import Theme, curve_look, legend, new_figure, titles

Moments = tuple[Sequence[float], Sequence[float]]  # means and standard deviations of the posterior's entries
_MOST = 7  # entries that are drawn: those whose mean moves most


def belief_figure(episodes: Sequence[Sequence[Moments]], theme: Theme) -> Figure:
    """Draw means against steps, with bands of one standard deviation; lines divide the episodes.

    Args:
        episodes: of each episode the posterior before each step, and after the last.
        theme: colors.
    """
    means, deviations = (np.array([moments[part] for episode in episodes for moments in episode]) for part in (0, 1))
    figure, (ax,) = new_figure(theme, 1, (6.8, 3.4))
    entries = moving_entries(means, _MOST)
    ends = np.cumsum([len(episode) for episode in episodes])[:-1] - 0.5
    handles = draw_belief(ax, np.arange(len(means)), means[:, entries], deviations[:, entries], ends.tolist(), theme)
    titles(ax, theme, "steps of the trial; lines divide episodes", "mean of the posterior ± its deviation")
    legend(figure, theme, handles, [f"entry {entry + 1}" for entry in entries])
    return figure


def moving_entries(means: Array, most: int) -> list[int]:
    """The columns of means (steps, entries) that move most, in their order."""
    return sorted(np.argsort(-np.ptp(means, axis=0), kind="stable")[:most].tolist())


def draw_belief(ax: Axes, steps: Array, means: Array, deviations: Array, ends: Sequence[float], theme: Theme) -> list[Line2D]:
    """Draw a line for each column of means (steps, entries) with a band of one deviation, and one at each end of an episode."""
    lines = []
    for number, (mean, deviation) in enumerate(zip(means.T, deviations.T, strict=True)):
        color, dashes = curve_look(theme, number)
        lines += ax.plot(steps, mean, color=color, linestyle=dashes, linewidth=1.4)
        ax.fill_between(steps, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0)
    for end in ends:
        ax.axvline(end, color=theme.muted, linewidth=0.6, alpha=0.5)
    return lines


def belief_table(episodes: Sequence[Sequence[Moments]]) -> str:
    """Write the posteriors as CSV, one row before each step and after the last of an episode."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    entries = range(1, len(episodes[0][0][0]) + 1)
    rows.writerow(["episode", "step", *(f"mean_{entry}" for entry in entries), *(f"deviation_{entry}" for entry in entries)])
    for number, episode in enumerate(episodes, 1):
        rows.writerows([number, step, *mean, *deviation] for step, (mean, deviation) in enumerate(episode))
    return file.getvalue()
