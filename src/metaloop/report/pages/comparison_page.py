"""The page of a comparison."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.comparison import Comparison, difference_text, scatter
from metaloop.report.figures.pictures import Picture, picture
from metaloop.report.figures.sheets import sample_figure
from metaloop.report.pages.views import templates
from metaloop.system.files import write_atomically

# Of some episodes what each run answers, as samples.npz has it: (first or second, their numbers) to a mapping an episode.
Answers = Callable[[int, Sequence[int]], Sequence[Mapping[str, Array]]]


@dataclass(frozen=True)
class Disagreement:
    """Episodes in which one run is ahead by the most.

    Attributes:
        title: whose.
        episodes: number, the first's score and the second's, as text.
        pictures: of the first's and the second's answers, in turn.
    """

    title: str
    episodes: Sequence[tuple[str, str, str]]
    pictures: Sequence[tuple[str, Picture]]


def write_comparison(found: Comparison, answers: Answers, missing: str, destination: Path) -> Path:
    """Write ``index.html`` and, but where a run diverged in every episode, ``scatter.png``.

    Args:
        found: the comparison.
        answers: of the runs; not asked where ``missing`` says why there are none.
        missing: why the episodes cannot be shown; empty where they can.
        destination: folder; made where it is missing.

    Returns:
        The page.
    """
    drawn = picture(lambda theme: scatter(found, theme), "scores of both runs in every episode, and their differences")
    titles = [f"{name} is ahead by the most" for name in found.names]
    parts = [
        _disagreement(found, title, numbers, None if missing else answers)
        for title, numbers in zip(titles, found.apart(), strict=True)
    ]
    ahead = found.ahead
    page = (
        templates()
        .get_template("comparison.html")
        .render(
            title=f"{found.names[0]} and {found.names[1]}",
            names=found.names,
            scores=[run.metric.interval(run.test.mean, run.test.half_width) for run in (found.first, found.second)],
            unit=found.metric.heading,
            difference=difference_text(found),
            episodes=len(found.episodes),
            diverged=int((~np.isfinite(found.scores)).any(axis=0).sum()),
            ahead=ahead,
            level=formats.percent(found.difference.interval.level),
            scatter=drawn,
            parts_=[part for part in parts if part.episodes],
            zip=zip,
            missing=missing,
            settings=found.settings,
            directories=[str(run.directory) for run in (found.first, found.second)],
        )
    )
    if drawn is not None:
        write_atomically(destination / "scatter.png", base64.b64decode(drawn.light))
    return write_atomically(destination / "index.html", page)


def _disagreement(found: Comparison, title: str, numbers: Sequence[int], answers: Answers | None) -> Disagreement:
    place = {int(number): i for i, number in enumerate(found.episodes)}
    rows = [(str(n), *(found.metric.number(float(scores[place[n]])) for scores in found.scores)) for n in numbers]
    pictures: list[tuple[str, Picture]] = []
    if answers is not None and numbers:
        for samples in zip(*(answers(which, numbers) for which in (0, 1)), strict=True):
            for name, each in zip(found.names, samples, strict=True):
                drawn = picture(lambda theme, e=each: sample_figure(e, theme), f"answers of {name}")  # type: ignore[misc]
                pictures += [(name, drawn)] if drawn else []
    return Disagreement(title, [(row[0], row[1], row[2]) for row in rows], pictures)
