"""Section of a page about a hyperparameter search: its trials as a table and as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.jobs import PRUNED
from metaloop.records.runs import Run
from metaloop.report import formats
from metaloop.report.figures.pictures import picture
from metaloop.report.figures.search_plots import FILE, front_figure, importance_figure, parallel_figure, read_search
from metaloop.report.pages.ablation import Section
from metaloop.report.pages.unfinished import Failure
from metaloop.report.tables.facts import show
from metaloop.report.tables.results import Cell, Table

Search = Mapping[str, Any]


def find_searches(paths: Sequence[Path]) -> tuple[dict[Path, Search], list[Failure]]:
    """Find the searches in and below some directories, by folder, and the files that could not be read."""
    searches: dict[Path, Search] = {}
    failures = []
    for folder in dict.fromkeys(file.parent for start in paths for file in sorted(Path(start).rglob(FILE))):
        try:
            search = read_search(folder)
        except UserError as error:
            failures.append(Failure(folder / FILE, str(error)))
            continue
        if search is not None:
            searches[folder] = search
    return searches, failures


def pruned(searches: Mapping[Path, Search]) -> set[Path]:
    """Directories of the runs that a search has pruned."""
    return {
        (folder / trial["directory"]).resolve()
        for folder, search in searches.items()
        for trial in search["trials"]
        if trial["state"] == PRUNED
    }


def without_unchosen(runs: Sequence[Run], searches: Mapping[Path, Search]) -> Sequence[Run]:
    """Leave out the trials that a search did not choose, because the best of many meta-test scores is no estimate.

    All runs are returned if no chosen trial is among them.
    """
    chosen: dict[bool, set[Path]] = {True: set(), False: set()}
    for folder, search in searches.items():
        for trial in search["trials"]:
            chosen[trial["number"] in search["best"]].add((folder / trial["directory"]).resolve())
    left = [run for run in runs if run.directory.resolve() not in chosen[False]]
    return left if any(run.directory.resolve() in chosen[True] for run in left) else runs


def search_sections(searches: Mapping[Path, Search]) -> list[Section]:
    """Make one section for each search."""
    return [_section(folder, search, number) for number, (folder, search) in enumerate(searches.items(), 1)]


def _section(folder: Path, search: Search, number: int) -> Section:
    draws = {
        "importance": (importance_figure, "importance of each parameter"),
        "parallel": (parallel_figure, "every trial as a line over its parameters and its score"),
        "front": (front_figure, "trials by two objectives, with the Pareto front"),
    }
    suffix = "" if number == 1 else f"_{number}"
    drawn = [(f"search_{name}{suffix}", picture(lambda theme, f=f: f(search, theme), alt)) for name, (f, alt) in draws.items()]  # type: ignore[misc]
    count: dict[str, int] = {}
    for trial in search["trials"]:
        count[trial["state"]] = count.get(trial["state"], 0) + 1
    note = (
        f"{len(search['trials'])} trials ({', '.join(f'{n} {state}' for state, n in count.items())}) of the sampler "
        f"{search.get('sampler')}. The search used meta-validation alone; meta-test scores did not influence any choice, "
        f"and the other tables have those of the chosen trial alone. "
        f"Importance ({search.get('importance_method') or 'too few trials'}) is a parameter's share in reaching good values, "
        "estimated from the finished trials."
    )
    return Section(
        f"search{suffix}", f"Search {folder.name}", _table(search), [(name, p) for name, p in drawn if p is not None], note
    )


def _table(search: Search) -> Table:
    """Table of the trials, the best first and unfinished ones last."""
    objectives, space = list(search["objectives"]), list(search["space"])
    first = objectives[0]
    sign = -1.0 if search["objectives"][first] == "maximize" else 1.0

    def place(trial: Mapping[str, Any]) -> tuple[bool, float]:
        value = (trial.get("values") or {}).get(first)
        return value is None, 0.0 if value is None else sign * value

    rows = []
    for trial in sorted(search["trials"], key=place):
        values = trial.get("values") or {}
        best = "best" if trial["number"] in search["best"] else ""
        scores = [Cell(_value(name, values.get(name), search["metric"]), values.get(name), best) for name in objectives]  # type: ignore[arg-type]
        settings = [Cell(show(trial["params"].get(key)), trial["params"].get(key)) for key in space]
        rows.append((Cell(str(trial["number"]), trial["number"]), Cell(trial["state"], trial["state"]), *scores, *settings))
    numeric = [search["space"][key].get("kind") != "choice" for key in space]
    heads = ("trial", "state", *(_head(name, search["metric"]) for name in objectives), *space)
    return Table(heads, tuple(rows), (True, False, *[True] * len(objectives), *numeric))


def _value(objective: str, value: float | None, metric: Metric) -> str:
    if objective == "validation":
        return metric.number(value)
    shown = {"tasks_per_second": formats.rate, "peak_memory": formats.memory, "seconds": formats.duration}
    return shown[objective](value) if objective in shown else show(value)


def _head(objective: str, metric: Metric) -> str:
    return f"meta-validation {metric.heading}" if objective == "validation" else objective.replace("_", " ")
