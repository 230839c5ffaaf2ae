"""What a learner did in a few tasks before and after it adapted: ways on maps, rewards over steps, beliefs about the task."""

from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from metaloop.records.trajectories import KeptTask, Trajectories
from metaloop.report.figures.belief_plot import draw_belief
from metaloop.report.figures.theme import Theme, legend, new_figure, titles

_SIDE = 2.45  # inches of a panel's longer side
_ENDS = 30  # most episodes of a trial whose ends are drawn
_MARKS = ("*", "P", "X", "D")  # of whatever is on a map


def trajectory_figure(trajectories: Trajectories, theme: Theme) -> Figure | None:
    """Draw ways on the map of each task, or without a map the reward so far over steps.

    None for what is drawn as boards, and for episodes of a single step.
    """
    episodes = [episode for task in trajectories.tasks for episode in task.episodes]
    if any(episode.drawings for episode in episodes) or all(len(episode.rewards) == 1 for episode in episodes):
        return None
    tasks, placed = trajectories.tasks, trajectories.corners is not None
    figure, axes = _panels(len(tasks), _SIDE if placed else 0.8 * _SIDE, theme)
    handles: dict[str, Artist] = {}
    for number, (ax, task) in enumerate(zip(axes, tasks, strict=True)):
        handles |= _draw_map(ax, task, trajectories, theme) if placed else _draw_rewards(ax, task, theme)
        labels = ("", "") if placed else ("step" if _lowest(number, len(tasks)) else "", "" if number % 2 else "reward so far")
        titles(ax, theme, *labels, f"task {task.number}")
    legend(figure, theme, list(handles.values()), list(handles))
    return figure


def _panels(count: int, height: float, theme: Theme) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, two in a row, which stay legible in a narrow window."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure, axes = new_figure(theme, columns, (_SIDE * columns, height * rows), rows=rows)
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count]


def _lowest(number: int, count: int) -> bool:
    """Whether no panel is below that with this number."""
    return number + 2 >= count


def _looks(task: KeptTask, theme: Theme) -> list[tuple[str, float]]:
    """Color and width of each episode: gray for the first, the strongest for the last."""
    strong = [(theme.palette[4], 1.3), (theme.palette[0], 1.7)]
    return [(theme.muted, 1.0), *strong[3 - len(task.episodes) :]]


def _draw_map(ax: Axes, task: KeptTask, trajectories: Trajectories, theme: Theme) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for number, (episode, (color, width)) in enumerate(zip(task.episodes, _looks(task, theme), strict=True)):
        x, y = zip(*episode.places, strict=True)
        alpha = 0.75 if number == 0 else 0.95
        (handles[episode.name],) = ax.plot(x, y, color=color, linewidth=width, alpha=alpha, zorder=3 + number)
        ax.plot(x[-1:], y[-1:], "o", color=color, markersize=3.5, zorder=3 + number)
    start = task.episodes[0].places[:1]
    dot: dict[str, Any] = {"markersize": 6, "linestyle": "none", "markeredgecolor": theme.surface, "zorder": 8}
    (handles["start"],) = ax.plot(*zip(*start, strict=True), "o", color=theme.text, **dot)
    for number, (name, place) in enumerate(task.marks.items()):
        look = {**dot, "markersize": 13, "zorder": 9}
        (handles[name],) = ax.plot(*place, _MARKS[number % len(_MARKS)], color=theme.palette[1], **look)
    assert trajectories.corners is not None
    (left, bottom), (right, top) = trajectories.corners
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    return handles


def _draw_rewards(ax: Axes, task: KeptTask, theme: Theme) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for episode, (color, width) in zip(task.episodes, _looks(task, theme), strict=True):
        sums = list(accumulate(episode.rewards, initial=0.0))
        (handles[episode.name],) = ax.plot(range(len(sums)), sums, color=color, linewidth=width)
        ax.plot(len(sums) - 1, sums[-1], "o", color=color, markersize=3.5)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    return handles


def beliefs_figure(trajectories: Trajectories, theme: Theme) -> Figure | None:
    """Draw what the policy believed about each task in the course of the trial; None for a policy without a posterior."""
    tasks = [(task, task.belief) for task in trajectories.tasks if task.belief]
    if not tasks:
        return None
    figure, axes = _panels(len(tasks), 0.8 * _SIDE, theme)
    handles: list[Line2D] = []
    for number, (ax, (task, belief)) in enumerate(zip(axes, tasks, strict=True)):
        steps, means, deviations = np.array(belief.steps), np.array(belief.means), np.array(belief.deviations)
        ends = belief.ends[:-1] if len(belief.ends) <= _ENDS else ()
        handles = draw_belief(ax, steps, means, deviations, ends, theme)
        below = "step of the trial" if _lowest(number, len(tasks)) else ""
        titles(ax, theme, below, "" if number % 2 else "posterior ± deviation", f"task {task.number}")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    legend(figure, theme, handles, [f"entry {entry}" for entry in tasks[0][1].entries])
    return figure
