"""Figure of the features that matter most to a learner."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from metaloop.report.figures.theme import Theme, drawable, new_figure, short, titles

_MOST, _LONGEST = 15, 40  # bars, and letters of a name


def feature_figure(importances: Mapping[str, float], theme: Theme) -> Figure | None:
    """Draw the shares of the most important features as bars; None if there are none.

    Args:
        importances: share by name, most important first.
        theme: colors of the figure.
    """
    shown = [(name, share) for name, share in importances.items() if share > 0][:_MOST]
    if not shown:
        return None
    figure, (ax,) = new_figure(theme, 1, (6.4, 0.9 + 0.26 * len(shown)))
    places = range(len(shown))
    ax.barh(places, [100 * share for _, share in shown], color=theme.palette[0], height=0.7)
    ax.set_yticks(places, [drawable(short(name, _LONGEST)) for name, _ in shown], parse_math=False)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    titles(ax, theme, "share of all reductions of the error (%)", "", "which features matter")
    return figure
