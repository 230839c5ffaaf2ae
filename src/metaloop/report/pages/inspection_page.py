"""The page of ``metaloop inspect``: whether adaptation learns rapidly or reuses features (Raghu et al. 2020)."""

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
_MOST = 12  # confusions that the page lists
PARTS = {"start": "not adapted", "all": "adapted", "head": "head only", "body": "body only"}
PICTURES = {
    "parts": "score before adaptation, after it, and with the body or the head held",
    "losses": "losses and score over inner steps",
    "representations": "similarity of each layer's representations before and after adaptation",
    "parameters": "movement of each layer's parameters and its gradient over inner steps",
    "map": "support and query of one episode by their two principal components",
    "classes": "accuracy by class",
    "confusion": "which class is taken for which",
}


def read_inspection(folder: Path) -> Inspection:
    """``inspection.json`` of a folder.

    Raises:
        UserError: it is missing, broken, or of another version.
    """
    path = folder / "inspection.json"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != INSPECTION_VERSION:
        raise UserError(f"{path} was not written by this version of metaloop inspect; run it again")
    return {**found, "metric": Metric.from_dict(found["metric"])}


def write_inspection_page(folder: Path) -> Path:
    """Write ``index.html`` and one PNG a picture beside ``inspection.json``, whose numbers they show.

    Raises:
        UserError: a file is missing or broken.
    """
    found = read_inspection(folder)
    pictures: dict[str, Picture] = {}
    for name, draw in _draws(found, _map(folder)).items():
        drawn = picture(draw, PICTURES[name])
        if drawn is None:
            (folder / f"{name}.png").unlink(missing_ok=True)  # of an inspection that had more to show
            continue
        pictures[name] = drawn
        write_atomically(folder / f"{name}.png", base64.b64decode(drawn.light))
    page = (
        templates()
        .get_template("inspection.html")
        .render(
            title=found["run"],
            setting=_setting(found),
            conclusion=conclusion(found),
            parts=_parts(found),
            pictures=pictures,
            absent=absent(found, pictures),
            adapted=found.get("adapted") or [],
            confusion=(found.get("confusion") or [])[:_MOST],
        )
    )
    return write_atomically(folder / "index.html", page)


def _draws(found: Inspection, points: Mapping[str, Array] | None) -> dict[str, Draw]:
    return {
        "parts": lambda theme: parts_figure(found, PARTS, theme),
        "losses": lambda theme: losses_figure(found, theme),
        "representations": lambda theme: similarity_figure(found, theme),
        "parameters": lambda theme: movement_figure(found, theme),
        "map": lambda theme: None if points is None else map_figure(points, theme),
        "classes": lambda theme: classes_figure(found, theme),
        "confusion": lambda theme: confusion_figure(found, theme),
    }


def _map(folder: Path) -> Mapping[str, Array] | None:
    path = folder / "inspection.npz"
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # damage shows as many kinds of error
        raise UserError(f"{path} cannot be read: {error}") from error


def conclusion(found: Inspection) -> str:
    """One sentence: what adaptation changes, and whether the body's part of it is needed."""
    metric, parts, against = found["metric"], found["parts"], found["parts"]["all_minus"]
    if "start" not in parts:
        return f"This learner takes no inner steps; its score is {_score(parts['all'], metric)}."
    gain = f"Adaptation moves the score from {_score(parts['start'], metric)} to {_score(parts['all'], metric)}"
    if "head" not in parts:
        only = "head" if all(name.startswith("head.") for name in found["adapted"]) else "body"
        return f"{gain}; only the {only} adapts in this run, so all of it is the {only}'s."
    sign = metric.sign
    if not _surely_positive(against["start"], sign):
        return f"{gain}, which is no sure gain; there is nothing to divide between head and body."
    gain = f"{gain[0].lower()}{gain[1:]}"
    held = f"with the body held at its start it is {_score(parts['head'], metric)} (difference {_gap(against['head'], metric)})"
    if not _surely_positive(against["head"], sign):
        return f"Feature reuse: {gain}, and {held}: the head's adaptation alone does it."
    if not _surely_positive(parts["minus_start"]["head"], sign):
        return f"Rapid learning: {gain}; {held}: without the body's adaptation there is no sure gain."
    share = against["head"]["mean"] / against["start"]["mean"]
    return (
        f"Both: {gain}; {held}: {100 * share:.0f} % of the gain needs the body to adapt, the rest comes from reused features."
    )


def _surely_positive(interval: Mapping[str, Any], sign: float) -> bool:
    return bool(sign * interval["mean"] > (interval["half_width"] or 0.0))


def _score(part: Mapping[str, Any], metric: Metric) -> str:
    return metric.with_unit(metric.interval(part["mean"], part["half_width"]))


def _gap(part: Mapping[str, Any], metric: Metric) -> str:
    """A paired difference with its interval and unit."""
    text = metric.difference(part["mean"])
    half = "" if part["half_width"] is None else f" ± {metric.number(part['half_width'])}"
    return f"{text}{half} {metric.difference_unit}".rstrip()


def _parts(found: Inspection) -> list[tuple[str, str, str]]:
    """Name, score, and the paired difference of the adapted learner to it."""
    metric, parts = found["metric"], found["parts"]
    against = parts["all_minus"]
    shown = [name for name in PARTS if name in parts]
    return [(PARTS[n], _score(parts[n], metric), _gap(against[n], metric) if n in against else "") for n in shown]


def _setting(found: Inspection) -> str:
    choices = found["choices"]
    size = found["setting"]
    steps = "" if found["steps"] is None else f", {found['steps']} inner step{'s' if found['steps'] > 1 else ''}"
    mode = f"norm {found['norm_mode']}{', transductive' if found['transductive'] else ''}"
    names = ", ".join(str(choices[group]) for group in ("algorithm", "model", "dataset") if choices.get(group))
    return f"{names}: {size}{steps}, {mode}; the first {found['episodes']} meta-test episodes, seed {found['seed']}"


def absent(found: Inspection, pictures: Mapping[str, Picture]) -> list[str]:
    """What the page does not show, and why."""
    said = []
    if found["steps"] is None:
        said.append("Losses over inner steps, movement of parameters and representations: this learner takes no inner steps.")
    elif "head" not in found["parts"]:
        said.append("Head and body held in turn: only one of them adapts.")
    if "classes" not in found:
        said.append("Accuracy by class, confusions and the embedding map: these tasks have no classes.")
    elif "map" not in pictures:
        said.append("The embedding map: this learner has no embedding of single examples that is known here.")
    return said


def lines(folder: Path) -> list[str]:
    """What the command says of an inspection below its conclusion, line by line."""
    found = read_inspection(folder)
    said = [f"episodes  {found['episodes']} of the meta-test, 95 % intervals"]
    said += [f"{name}  {_score(found['parts'][key], found['metric'])}" for key, name in PARTS.items() if key in found["parts"]]
    shown = [(row["layer"], row["cka"][-1]["mean"]) for row in found.get("representations", [])]
    if shown:
        said.append("CKA by layer  " + ", ".join(f"{n} {formats.NONE if v is None else f'{v:.3f}'}" for n, v in shown))
    return said
