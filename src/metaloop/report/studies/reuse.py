"""The page of the study *Rapid learning or feature reuse* (Raghu et al. 2020, Oh et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from metaloop.records.studies import StudyRecord
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles
from metaloop.report.studies.parts import StudyPage, gap, interval, intro, shown
from metaloop.report.tables.markdown import table

_ADAPTED = "algorithm/adapted"
_TRAINED = {"all": "MAML", "head": "ANIL", "body": "BOIL"}
_AT_TEST = {"head": "head only", "body": "body only", "all": "all"}
_SCORES, _CHANGE = "study_reuse_scores.png", "study_reuse_layers.png"
_ABOUT = (
    "Does the inner loop learn new features or reuse those of the start? Three trainings differ in what the inner loop adapts: "
    "all (MAML), the head (ANIL), the body (BOIL). At test, each of the same three networks adapts its head, its body or all."
)
_MEASURES = (
    "Representations of the queries before and after adaptation of all parameters are compared layer by layer. *CKA*: with X "
    "and Y (queries × features) centred over the queries, ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F), the linear centred kernel alignment of "
    "Kornblith et al. 2019; it ignores rotation and scale. *Cosine*: the mean over queries of the cosine of a query's two "
    "representations. 1 is no change. Mean over {episodes} test tasks."
)


def page(record: StudyRecord) -> StudyPage:
    """Make the page."""
    trained, cells = _trained(record), _cells(record)
    text = intro(record, "Rapid learning or feature reuse", _ABOUT)
    text += _lead(record, trained, cells)
    text += f"\n## What adapts at test\n\n{_scores_table(record, trained, cells)}\n"
    text += (
        "In brackets: the difference to adapting all, on the same network and episodes, paired. *Before* is the score of the "
        f"start, which no task has moved.\n\n![Scores by what adapts at test](images/{_SCORES})\n"
    )
    pictures = {_SCORES: png(_scores_figure(record, trained, cells))}
    inspections = {name: run.inspection for name, run in zip(trained, record.facts.runs, strict=True) if run.inspection}
    if inspections:
        pictures[_CHANGE] = png(_change_figure(inspections))
        text += f"\n## Change of representation by layer\n\n{_MEASURES.format(episodes=_episodes(inspections))}\n\n"
        text += f"{_change_table(inspections)}\n![Change of representation by layer](images/{_CHANGE})\n"
    return StudyPage(text, pictures)


def _trained(record: StudyRecord) -> list[str]:
    """Name of each training, by what it adapts; a run that does not say so adapts all."""
    return [_TRAINED[run.settings.get(_ADAPTED, "all")] for run in record.facts.runs]


def _cells(record: StudyRecord) -> dict[tuple[int, str], str]:
    """Column of each (training, what adapts at test)."""
    return {(one.run, one.settings[_ADAPTED]): one.column for one in record.facts.evaluations if _ADAPTED in one.settings}


def _lead(record: StudyRecord, trained: Sequence[str], cells: Mapping[tuple[int, str], str]) -> str:
    """The scores of networks that adapt at test what they did in training, and of MAML's with its head alone."""
    scores = {(trained[run], part): record.scores[column] for (run, part), column in cells.items()}
    wanted = [("MAML", "all"), ("BOIL", "body"), ("ANIL", "head"), ("MAML", "head")]
    if any(pair not in scores for pair in wanted):
        return ""
    everything, body, head, alone = (scores[pair] for pair in wanted)

    def said(adapted: Array) -> str:
        return f"{shown(record, adapted)} ({formats.difference(gap(adapted, everything), record.facts.metric)})"

    return (
        f"\n**The same parts in training and at test:** all {shown(record, everything)}, the body {said(body)}, the head "
        f"{said(head)}. **MAML's own network, of which only the head adapts at test:** {said(alone)}.\n"
    )


def _scores_table(record: StudyRecord, trained: Sequence[str], cells: Mapping[tuple[int, str], str]) -> str:
    metric, rows = record.facts.metric, []
    for number, name in enumerate(trained):
        starts = [one.start for one in record.facts.evaluations if one.run == number and one.start is not None]
        row = [name, metric.number(starts[0]) if starts else formats.NONE]
        everything = cells.get((number, "all"))
        for part in _AT_TEST:
            column = cells.get((number, part))
            if column is None:
                row.append(formats.NONE)
                continue
            text = shown(record, record.scores[column])
            if part != "all" and everything is not None:
                text += f" ({formats.difference(gap(record.scores[column], record.scores[everything]), metric)})"
            row.append(text)
        rows.append(row)
    return table(("trained as", "before", *_AT_TEST.values()), rows)


def _scores_figure(record: StudyRecord, trained: Sequence[str], cells: Mapping[tuple[int, str], str]) -> Figure:
    figure, (ax,) = new_figure(LIGHT, 1, (6.2, 2.9))
    scale, handles = record.facts.metric.scale, []
    for place, part in enumerate(_AT_TEST):
        known = [
            (number, interval(record.scores[cells[number, part]])) for number in range(len(trained)) if (number, part) in cells
        ]
        handles.append(
            ax.errorbar(
                [number + 0.16 * (place - 1) for number, _ in known],
                [scale * each.mean for _, each in known],
                [scale * (each.half_width or 0.0) for _, each in known],
                fmt="o", color=LIGHT.palette[place], capsize=3,
            )
        )  # fmt: skip
    ax.set_xticks(range(len(trained)), [f"trained as {name}" for name in trained])
    ax.set_xlim(-0.5, len(trained) - 0.5)
    titles(ax, LIGHT, "", record.facts.metric.heading)
    legend(figure, LIGHT, handles, [f"at test: {name}" for name in _AT_TEST.values()])  # type: ignore[arg-type]
    return figure


def _episodes(inspections: Mapping[str, Mapping[str, Any]]) -> str:
    return formats.either(sorted({int(each["episodes"]) for each in inspections.values()}))


def _end(layer: Mapping[str, Any], measure: str) -> tuple[float, float]:
    """Mean and half-width of a measure after the last inner step; nan where a representation has no direction."""
    last = layer[measure][-1]
    return (float("nan") if last["mean"] is None else last["mean"]), last["half_width"] or 0.0


def _change_table(inspections: Mapping[str, Mapping[str, Any]]) -> str:
    layers = [layer["layer"] for layer in next(iter(inspections.values()))["representations"]]
    rows = []
    for name, inspection in inspections.items():
        for measure, title in (("cka", "CKA"), ("cosine", "cosine")):
            ends = [_end(layer, measure) for layer in inspection["representations"]]
            rows.append((name, title, *(f"{mean:.3f} ± {half:.3f}" for mean, half in ends)))
    return table(("trained as", "measure", *layers), rows)


def _change_figure(inspections: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure, axes = new_figure(LIGHT, 2, (7.6, 2.9))
    handles = []
    for ax, (measure, title) in zip(axes, (("cka", "linear CKA"), ("cosine", "cosine")), strict=True):
        for number, inspection in enumerate(inspections.values()):
            layers = inspection["representations"]
            means, halves = zip(*[_end(layer, measure) for layer in layers], strict=True)
            color, dashes = curve_look(LIGHT, number)
            line = ax.errorbar(range(len(layers)), means, halves, fmt="o", ls=dashes, color=color, capsize=3, markersize=4)
            if ax is axes[0]:
                handles.append(line)
        ax.set_xticks(range(len(layers)), [layer["layer"] for layer in layers])
        titles(ax, LIGHT, "layer", f"{title}, before and after")
    legend(figure, LIGHT, handles, [f"trained as {name}" for name in inspections])  # type: ignore[arg-type]
    return figure
