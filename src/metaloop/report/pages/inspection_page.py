"""The page of ``metaloop inspect``: rapid learning or feature reuse (Raghu et al. 2020)."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.schema import INSPECTION_VERSION
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.figures.inspection_plots import losses_figure, movement_figure, parts_figure, similarity_figure
from metaloop.report.figures.map_plots import classes_figure, confusion_figure, map_figure
from metaloop.report.figures.pictures import Draw, Picture, picture
from metaloop.report.pages.views import templates
from metaloop.system.files import write_atomically

Inspection = Mapping[str, Any]  # inspection.json, with its metric read
_MOST = 12  # most confusions that the page lists
PARTS = {"start": "not adapted", "all": "adapted", "head": "head only", "body": "body only"}
PICTURES = {
    "parts": "score before adaptation, after it, and with the body or the head held",
    "losses": "losses and score over inner steps",
    "representations": "similarity of each layer's representations before and after adaptation",
    "parameters": "movement of each layer's parameters and its gradient over inner steps",
    "map": "support and query of one episode by their two principal components",
    "classes": "accuracy by class",
    "confusion": "mistaken classes as a matrix",
}


def read_inspection(folder: Path) -> Inspection:
    """Read ``inspection.json`` of a folder.

    Raises:
        UserError: the file is missing, broken, or of another version.
    """
    path = folder / "inspection.json"
    try:
        inspection = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(inspection, dict) or inspection.get("schema") != INSPECTION_VERSION:
        raise UserError(f"{path} was not written by this version of metaloop inspect; run it again")
    return {**inspection, "metric": Metric.from_dict(inspection["metric"])}


def write_inspection_page(folder: Path) -> Path:
    """Write ``index.html`` and a PNG for each picture beside ``inspection.json``, whose numbers they show.

    Raises:
        UserError: a file is missing or broken.
    """
    inspection = read_inspection(folder)
    pictures: dict[str, Picture] = {}
    for name, draw in _draws(inspection, _map(folder)).items():
        drawn = picture(draw, PICTURES[name])
        if drawn is None:
            (folder / f"{name}.png").unlink(missing_ok=True)  # left by an earlier inspection
            continue
        pictures[name] = drawn
        write_atomically(folder / f"{name}.png", base64.b64decode(drawn.light))
    page = (
        templates()
        .get_template("inspection.html")
        .render(
            title=inspection["run"],
            setting=_setting(inspection),
            conclusion=conclusion(inspection),
            parts=_parts(inspection),
            pictures=pictures,
            absent=absent(inspection, pictures),
            adapted=inspection.get("adapted") or [],
            confusion=(inspection.get("confusion") or [])[:_MOST],
        )
    )
    return write_atomically(folder / "index.html", page)


def _draws(inspection: Inspection, points: Mapping[str, Array] | None) -> dict[str, Draw]:
    return {
        "parts": lambda theme: parts_figure(inspection, PARTS, theme),
        "losses": lambda theme: losses_figure(inspection, theme),
        "representations": lambda theme: similarity_figure(inspection, theme),
        "parameters": lambda theme: movement_figure(inspection, theme),
        "map": lambda theme: None if points is None else map_figure(points, theme),
        "classes": lambda theme: classes_figure(inspection, theme),
        "confusion": lambda theme: confusion_figure(inspection, theme),
    }


def _map(folder: Path) -> Mapping[str, Array] | None:
    path = folder / "inspection.npz"
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged file raises errors of many kinds
        raise UserError(f"{path} cannot be read: {error}") from error


def conclusion(inspection: Inspection) -> str:
    """One sentence: how adaptation changes the score, and whether this needs the body to adapt."""
    metric, parts, against = inspection["metric"], inspection["parts"], inspection["parts"]["all_minus"]
    if "start" not in parts:
        return f"This learner takes no inner steps; its score is {_score(parts['all'], metric)}."
    gain = f"Adaptation moves the score from {_score(parts['start'], metric)} to {_score(parts['all'], metric)}"
    if "head" not in parts:
        only = "head" if all(name.startswith("head.") for name in inspection["adapted"]) else "body"
        return f"{gain}; only the {only} adapts in this run, so the whole change comes from the {only}."
    sign = metric.sign
    if not _surely_positive(against["start"], sign):
        return f"{gain}, which is no sure gain, so nothing can be attributed to head or body."
    gain = f"{gain[0].lower()}{gain[1:]}"
    held = f"with the body held at its start it is {_score(parts['head'], metric)} (difference {_gap(against['head'], metric)})"
    if not _surely_positive(against["head"], sign):
        return f"Feature reuse: {gain}, and {held}: adapting the head alone is enough."
    if not _surely_positive(parts["minus_start"]["head"], sign):
        return f"Rapid learning: {gain}; {held}: without adapting the body there is no sure gain."
    share = against["head"]["mean"] / against["start"]["mean"]
    return (
        f"Both: {gain}; {held}: {100 * share:.0f} % of the gain needs the body to adapt, the rest comes from reused features."
    )


def _surely_positive(interval: Mapping[str, Any], sign: float) -> bool:
    return bool(sign * interval["mean"] > (interval["half_width"] or 0.0))


def _score(part: Mapping[str, Any], metric: Metric) -> str:
    return metric.with_unit(metric.interval(part["mean"], part["half_width"]))


def _gap(part: Mapping[str, Any], metric: Metric) -> str:
    """Format a paired difference with its interval and unit."""
    text = metric.difference(part["mean"])
    half = "" if part["half_width"] is None else f" ± {metric.number(part['half_width'])}"
    return f"{text}{half} {metric.difference_unit}".rstrip()


def _parts(inspection: Inspection) -> list[tuple[str, str, str]]:
    """Name and score of each part, and the adapted learner's paired difference to it."""
    metric, parts = inspection["metric"], inspection["parts"]
    against = parts["all_minus"]
    shown = [name for name in PARTS if name in parts]
    return [(PARTS[n], _score(parts[n], metric), _gap(against[n], metric) if n in against else "") for n in shown]


def _setting(inspection: Inspection) -> str:
    choices = inspection["choices"]
    size = inspection["setting"]
    steps = "" if inspection["steps"] is None else f", {inspection['steps']} inner step{'s' if inspection['steps'] > 1 else ''}"
    mode = f"norm {inspection['norm_mode']}{', transductive' if inspection['transductive'] else ''}"
    names = ", ".join(str(choices[group]) for group in ("algorithm", "model", "dataset") if choices.get(group))
    return f"{names}: {size}{steps}, {mode}; the first {inspection['episodes']} meta-test episodes, seed {inspection['seed']}"


def absent(inspection: Inspection, pictures: Mapping[str, Picture]) -> list[str]:
    """Figures that the page does not show, with the reason."""
    messages = []
    if inspection["steps"] is None:
        messages.append(
            "Losses over inner steps, movement of parameters and representations: this learner takes no inner steps."
        )
    elif "head" not in inspection["parts"]:
        messages.append("Head and body held in turn: only one of them adapts.")
    if "classes" not in inspection:
        messages.append("Accuracy by class, confusions and the embedding map: these tasks have no classes.")
    elif "map" not in pictures:
        messages.append("The embedding map: this learner has no known embedding of single examples.")
    return messages


def lines(folder: Path) -> list[str]:
    """Lines that the command prints below the conclusion; two spaces separate a line's name from its content."""
    inspection = read_inspection(folder)
    messages = [f"episodes  {inspection['episodes']} of the meta-test, 95 % intervals"]
    parts, metric = inspection["parts"], inspection["metric"]
    messages += [f"{name}  {_score(parts[key], metric)}" for key, name in PARTS.items() if key in parts]
    shown = [(row["layer"], row["cka"][-1]["mean"]) for row in inspection.get("representations", [])]
    if shown:
        messages.append("CKA by layer  " + ", ".join(f"{n} {formats.NONE if v is None else f'{v:.3f}'}" for n, v in shown))
    return messages
