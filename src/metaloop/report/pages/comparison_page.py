"""The HTML page of a comparison of two runs."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.comparison import RunComparison, difference_text, scatter
from metaloop.report.figures.pictures import Picture, picture
from metaloop.report.figures.sheets import sample_figure
from metaloop.report.pages.views import templates
from metaloop.system.files import write_atomically

# Predictions of a run for some episodes: (0 or 1 for the run, episode numbers) to one mapping per episode, as in samples.npz.
Answers = Callable[[int, Sequence[int]], Sequence[Mapping[str, Array]]]


@dataclass(frozen=True)
class Disagreement:
    """Episodes in which one run leads by the most.

    Attributes:
        title: heading; names the run.
        episodes: (number, first score, second score) of each, as text.
        pictures: (run name, picture) of the first and the second run's predictions, in turn.
    """

    title: str
    episodes: Sequence[tuple[str, str, str]]
    pictures: Sequence[tuple[str, Picture]]


def write_comparison(comparison: RunComparison, answers: Answers, missing: str, destination: Path) -> Path:
    """Write ``index.html`` and, unless a run diverged in every episode, ``scatter.png``.

    Args:
        comparison: the comparison.
        answers: predictions of the runs; not called if ``missing`` is not empty.
        missing: why episodes cannot be shown; empty if they can.
        destination: folder of the page; created if it is missing.

    Returns:
        Path of the page.
    """
    drawn = picture(lambda theme: scatter(comparison, theme), "scores of both runs in every episode, and their differences")
    titles = [f"{name} is ahead by the most" for name in comparison.names]
    parts = [
        _disagreement(comparison, title, numbers, None if missing else answers)
        for title, numbers in zip(titles, comparison.apart(), strict=True)
    ]
    ahead = comparison.ahead
    page = (
        templates()
        .get_template("comparison.html")
        .render(
            title=f"{comparison.names[0]} and {comparison.names[1]}",
            names=comparison.names,
            scores=[run.metric.interval(run.test.mean, run.test.half_width) for run in (comparison.first, comparison.second)],
            unit=comparison.metric.heading,
            difference=difference_text(comparison),
            episodes=len(comparison.episodes),
            diverged=int((~np.isfinite(comparison.scores)).any(axis=0).sum()),
            ahead=ahead,
            level=formats.percent(comparison.difference.interval.level),
            scatter=drawn,
            parts_=[part for part in parts if part.episodes],
            zip=zip,
            missing=missing,
            settings=comparison.settings,
            directories=[str(run.directory) for run in (comparison.first, comparison.second)],
        )
    )
    if drawn is not None:
        write_atomically(destination / "scatter.png", base64.b64decode(drawn.light))
    return write_atomically(destination / "index.html", page)


def _disagreement(comparison: RunComparison, title: str, numbers: Sequence[int], answers: Answers | None) -> Disagreement:
    place = {int(number): i for i, number in enumerate(comparison.episodes)}
    rows = [(str(n), *(comparison.metric.number(float(scores[place[n]])) for scores in comparison.scores)) for n in numbers]
    pictures: list[tuple[str, Picture]] = []
    if answers is not None and numbers:
        for samples in zip(*(answers(which, numbers) for which in (0, 1)), strict=True):
            for name, each in zip(comparison.names, samples, strict=True):
                drawn = picture(lambda theme, e=each: sample_figure(e, theme), f"answers of {name}")  # type: ignore[misc]
                pictures += [(name, drawn)] if drawn else []
    return Disagreement(title, [(row[0], row[1], row[2]) for row in rows], pictures)
