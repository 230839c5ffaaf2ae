"""The page of the study *Score for minutes*: learners at equal budgets of processor time."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from metaloop.records.directory import minutes_of
from metaloop.records.studies import StudyRecord
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.figures.theme import LIGHT, curve_look, legend, new_figure, png, titles
from metaloop.report.studies.parts import StudyPage, gap, interval, intro, shown
from metaloop.report.tables.markdown import escaped_table

_CURVES = "study_minutes.png"
_ABOUT = (
    "Which learner has the best score after so many minutes of training? Each learner is trained once; at each mark of "
    "processor time, its best checkpoint so far by meta-validation is kept (`callbacks=cpu_budget`) and scored on the same "
    "meta-test episodes. Processor time is that of outer steps, without meta-validation and start-up. No learner was tuned for "
    "a budget."
)
Marks = Mapping[float, Array]  # scores by minutes


def page(record: StudyRecord) -> StudyPage:
    """Make the page."""
    curves = _curves(record)
    episodes = max(len(scores) for marks in curves.values() for scores in marks.values())
    text = intro(record, "Score for minutes", _ABOUT)
    text += f"\n![Score against minutes of processor time](images/{_CURVES})\n\n{_table(record, curves)}\n"
    text += (
        f"Scores on the same {episodes} episodes. Bold: the best of its column; ≈: its paired 95 % interval to the best "
        "contains zero, not corrected for the number of learners. *Outer steps* and *CPU*: at the end of training, "
        "which may pass a mark by up to the steps between two meta-validations.\n"
    )
    if settings := _settings(record, curves):
        text += f"\nSettings of each beside the common ones:\n\n{settings}"
    return StudyPage(text, {_CURVES: png(_figure(record, curves))})


def _curves(record: StudyRecord) -> dict[str, Marks]:
    """Scores by minutes of each learner, the best at the longest budget first."""
    curves: dict[str, dict[float, Array]] = {}
    for one in record.facts.evaluations:
        minutes = minutes_of(one.settings.get("checkpoint", ""))
        if minutes:
            curves.setdefault(_name(record, one.run), {})[minutes] = record.scores[one.column]
    sign = record.facts.metric.sign
    return dict(sorted(curves.items(), key=lambda item: -sign * float(item[1][max(item[1])].mean())))


def _settings(record: StudyRecord, curves: Mapping[str, Marks]) -> str:
    """What tells each learner's training apart, in the order of the curves."""
    settings = {_name(record, number): run.settings for number, run in enumerate(record.facts.runs)}
    words = {name: " ".join(f"{key}={value}" for key, value in settings[name].items() if key != "algorithm") for name in curves}
    return "".join(f"- {name}: `{each}`\n" for name, each in words.items() if each)


def _name(record: StudyRecord, run: int) -> str:
    return record.facts.runs[run].settings["algorithm"]


def _table(record: StudyRecord, curves: Mapping[str, Marks]) -> str:
    marks = sorted({mark for each in curves.values() for mark in each})
    sign, rows = record.facts.metric.sign, []
    best = {
        mark: max((each[mark] for each in curves.values() if mark in each), key=lambda scores: sign * float(scores.mean()))
        for mark in marks
    }
    runs = {_name(record, number): run for number, run in enumerate(record.facts.runs)}
    for name, each in curves.items():
        cells = []
        for mark in marks:
            text = shown(record, each[mark]) if mark in each else "–"
            if mark in each:
                difference = gap(each[mark], best[mark])
                tied = abs(difference.mean) <= (difference.half_width or 0.0)
                text = f"**{text}**" if each[mark] is best[mark] else f"{text} ≈" if tied else text
            cells.append(text)
        rows.append((name.replace("_", r"\_"), f"{runs[name].steps:,}", formats.duration(runs[name].cpu_seconds), *cells))
    return escaped_table(("learner", "outer steps", "CPU", *(f"{mark:g} min" for mark in marks)), rows)


def _figure(record: StudyRecord, curves: Mapping[str, Marks]) -> Figure:
    figure, (ax,) = new_figure(LIGHT, 1, (7.2, 3.6))
    scale, handles = record.facts.metric.scale, []
    for number, marks in enumerate(curves.values()):
        color, dashes = curve_look(LIGHT, number)
        points = [interval(scores) for _, scores in sorted(marks.items())]
        half = [scale * (each.half_width or 0.0) for each in points]
        means = [scale * each.mean for each in points]
        handles.append(ax.errorbar(sorted(marks), means, half, fmt="o", ls=dashes, color=color, capsize=2, markersize=3.5))
    ax.set_xscale("log")
    ticks = sorted({mark for marks in curves.values() for mark in marks})
    ax.set_xticks(ticks, [f"{mark:g}" for mark in ticks])
    ax.set_xticks([], minor=True)
    titles(ax, LIGHT, "minutes of processor time", record.facts.metric.heading)
    legend(figure, LIGHT, handles, list(curves))  # type: ignore[arg-type]
    return figure
