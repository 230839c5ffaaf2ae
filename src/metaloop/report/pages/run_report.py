"""The report of one run: pictures for a paper, and an HTML page."""

import base64
from collections.abc import Mapping
from pathlib import Path

from metaloop.records.explanations import read_explanation
from metaloop.records.runs import Run, read_run
from metaloop.records.tables import read_samples
from metaloop.report.figures.control_pictures import control_pictures
from metaloop.report.figures.importance_plot import feature_figure
from metaloop.report.figures.pictures import Draw, Picture, picture
from metaloop.report.figures.plots import adaptation_curves, learning_curves
from metaloop.report.figures.sheets import sample_figure
from metaloop.report.pages.views import run_view, templates
from metaloop.report.tables.rows import Row
from metaloop.system.files import write_atomically


def write_run_report(run_directory: Path) -> list[Path]:
    """Write ``report/`` into the directory of a finished run, or of a later evaluation.

    ``learning.png``, ``adaptation.png``, ``features.png``, ``episode.png``, ``trajectories.png`` (and ``.gif``, if it
    moves) and ``beliefs.png`` are written if the run has their data.
    ``index.html`` is always written; it is self-contained and shows the score beside baseline and published value, the
    learner's decision tree if it has one, the settings and the config.

    Returns:
        Paths of the written files, the page last.

    Raises:
        UserError: a file of the run is missing or broken; names it.
        OSError: the report cannot be written.
    """
    run = read_run(run_directory)
    draws = _draws(run)
    folder = run_directory / "report"
    written: list[Path] = []
    pictures: list[Picture] = []
    for name, (draw, alt) in draws.items():
        drawn = picture(draw, alt)
        if drawn is not None:
            pictures.append(drawn)
            written += _written(folder, name, drawn)
    for name, drawn in control_pictures(run_directory).items():
        pictures.append(drawn)
        written += _written(folder, name, drawn)
    view = run_view(run, run.name, "run", pictures)
    page = templates().get_template("run.html").render(run=view, title=run.name)
    return [*written, write_atomically(folder / "index.html", page)]


def _written(folder: Path, name: str, drawn: Picture) -> list[Path]:
    files = [write_atomically(folder / f"{name}.png", base64.b64decode(drawn.light))]
    if drawn.moving_light:
        files.append(write_atomically(folder / f"{name}.gif", base64.b64decode(drawn.moving_light)))
    return files


def _draws(run: Run) -> Mapping[str, tuple[Draw, str]]:
    """Drawing function and description of each picture, by file name."""
    rows, samples, metric = [Row((run,), run.name)], read_samples(run.directory), run.metric.heading
    over = f"{metric} over {run.test.curve_over}s, with its interval"
    draws: dict[str, tuple[Draw, str]] = {
        "adaptation": (lambda theme: adaptation_curves(rows, theme), over),
        "learning": (lambda theme: learning_curves(rows, theme), f"loss and {metric} over outer steps"),
    }
    explanation = read_explanation(run.directory)
    if explanation is not None:
        importances = explanation.importances
        draws["features"] = (lambda theme: feature_figure(importances, theme), "the features that matter most, as bars")
    if samples is not None:
        draws["episode"] = (lambda theme: sample_figure(samples, theme), "one episode with its predictions")
    return draws
