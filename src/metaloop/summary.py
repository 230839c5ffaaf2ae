"""What a finished run or evaluation tells the person who waits for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def _score(part: Mapping[str, Any], metric: str) -> str:
    mean, half = part["mean"], part["half_width"]
    scale, unit, digits = (100, " %", 2) if metric == "accuracy" else (1, "", 4)
    spread = "" if half is None else f" ± {half * scale:.{digits}f}"
    return f"{mean * scale:.{digits}f}{spread}{unit}"


def lines(record: Mapping[str, Any], directory: Path) -> list[str]:
    """The summary, line by line."""
    test = record["test"]
    metric = test["metric"]
    size = (
        f"{test['episodes']} episodes, {test['ways']}-way {test['shots']}-shot"
        if metric == "accuracy"
        else f"{test['episodes']} tasks, {test['shots']} points"
    )
    mode = f"norm {test['norm_mode']}{', transductive' if test['transductive'] else ''}"
    said = [f"meta-test {metric}  {_score(test, metric)}  (95 % interval, {size}, {mode})"]
    if record["choices"].get("dataset") == "omniglot_challenge":  # whose results are published as errors
        said.append(f"error rate  {100 * (1 - test['mean']):.2f} %")
    if len(test["curve"]) > 1:
        shown = ", ".join(f"{point['step']}: {_score({**point, 'half_width': None}, metric)}" for point in test["curve"])
        said.append(f"after inner steps  {shown}")
    if test.get("baseline"):
        said.append(f"baseline  {_score(test['baseline'], metric)}  ({test['baseline']['name']}, same episodes)")
    if record.get("paper"):
        published = record["paper"]["published"]
        said.append(f"published  {_score(published, metric)}  ({record['paper']['citation']}, {record['paper']['table']})")
    here = Path.cwd()
    shown_path = directory.relative_to(here) if directory.is_relative_to(here) else directory
    said += [f"run  {shown_path}", f"report  {shown_path / 'report' / 'index.html'}"]
    said.append(f"open it with  python -m webbrowser {shown_path / 'report' / 'index.html'}")
    return said


def print_summary(record: Mapping[str, Any], directory: Path) -> None:
    """Print it to standard output, first words aligned."""
    print()
    for line in lines(record, directory):
        head, _, rest = line.partition("  ")
        print(f"{head:<20}{rest}")
