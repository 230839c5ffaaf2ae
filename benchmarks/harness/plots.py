"""Plots of the records, in the style of metaloop's reports."""

from collections.abc import Mapping
from typing import Any


def speed_plot(cases: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Draw every contestant's tasks per second relative to the fastest peer (without peers, to metaloop), as a PNG."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    from metaloop.report.figures.theme import LIGHT, legend, new_figure, png, titles

    names = list(dict.fromkeys(name for case in cases.values() for name in case["rates"]))
    figure, (ax,) = new_figure(LIGHT, 1, (1.6 + 0.95 * len(cases), 3.2))
    width = 0.8 / len(names)
    for place, case in enumerate(cases.values()):
        unit = case["rates"][case.get("fastest_peer", "metaloop")]["median"]
        for number, name in enumerate(names):
            rate = case["rates"][name]
            at, height = place + (number - (len(names) - 1) / 2) * width, rate["median"] / unit
            errors = [[height - rate["low"] / unit], [rate["high"] / unit - height]]
            look = {"color": LIGHT.palette[number], "error_kw": {"linewidth": 0.8, "ecolor": LIGHT.text}}
            ax.bar(at, height, width * 0.92, yerr=errors, **look)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0.9 * min(1.0, ax.get_ylim()[0]))
    ax.set_xticks(range(len(cases)), list(cases))
    titles(ax, LIGHT, "case", "tasks/s over the fastest peer's")
    legend(figure, LIGHT, [Line2D([], [], color=LIGHT.palette[i], linewidth=6) for i in range(len(names))], names)
    return png(figure)


def memory_plot(points: Mapping[str, Mapping[str, Mapping[str, float]]]) -> bytes:
    """Draw peak memory beyond the imports against inner steps, one line per method, as a PNG."""
    from matplotlib.ticker import NullFormatter

    from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles

    figure, (ax,) = new_figure(LIGHT, 1, (5.2, 3.4))
    lines = []
    for number, curve in enumerate(points.values()):
        color, dashes = curve_look(LIGHT, number)
        steps = sorted(map(int, curve))
        heights = [max(curve[str(step)]["net"], 2**20) / 1e9 for step in steps]  # smaller values cannot be measured
        lines += ax.plot(steps, heights, dashes, color=color, linewidth=1.7, marker="o", markersize=3.5)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    titles(ax, LIGHT, "inner steps", "peak memory, GB")
    legend(figure, LIGHT, lines, list(points))
    return png(figure)
