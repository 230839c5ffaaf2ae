"""What a policy believed of a task, step by step, as a figure and as a table."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

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
    steps = np.arange(len(means))
    entries = sorted(np.argsort(-np.ptp(means, axis=0), kind="stable")[:_MOST].tolist())
    handles = []
    for number, entry in enumerate(entries):
        color, dashes = curve_look(theme, number)
        (line,) = ax.plot(steps, means[:, entry], color=color, linestyle=dashes, linewidth=1.4)
        low, high = means[:, entry] - deviations[:, entry], means[:, entry] + deviations[:, entry]
        ax.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        handles.append(line)
    for end in np.cumsum([len(episode) for episode in episodes])[:-1]:
        ax.axvline(end - 0.5, color=theme.muted, linewidth=0.6, alpha=0.5)
    titles(ax, theme, "steps of the trial; lines divide episodes", "mean of the posterior ± its deviation")
    legend(figure, theme, handles, [f"entry {entry + 1}" for entry in entries])
    return figure


def belief_table(episodes: Sequence[Sequence[Moments]]) -> str:
    """Write the posteriors as CSV, one row before each step and after the last of an episode."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    entries = range(1, len(episodes[0][0][0]) + 1)
    rows.writerow(["episode", "step", *(f"mean_{entry}" for entry in entries), *(f"deviation_{entry}" for entry in entries)])
    for number, episode in enumerate(episodes, 1):
        rows.writerows([number, step, *mean, *deviation] for step, (mean, deviation) in enumerate(episode))
    return file.getvalue()
