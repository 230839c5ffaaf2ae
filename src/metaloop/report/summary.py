"""What a finished run or evaluation tells the person who waits for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.records.runs import by_name


def _score(part: Mapping[str, Any], metric: str) -> str:
    mean, half = part["mean"], part["half_width"]
    scale, unit, digits = (100, " %", 2) if metric != "mse" else (1, "", 4)
    spread = "" if half is None else f" ± {half * scale:.{digits}f}"
    return f"{mean * scale:.{digits}f}{spread}{unit}"


def lines(record: Mapping[str, Any], directory: Path) -> list[str]:
    """The summary, line by line."""
    test = by_name(record["test"])
    metric = test["metric"]
    size = (
        f"{test['episodes']} episodes, {test['ways']}-way {test['shots']}-shot"
        if metric != "mse"
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
    said += _words(test) + _likelihoods(test)
    if rejection := test["others"].get("rejection"):
        said.append(f"rejection  {rejection['mean']:.3f}  (AUROC of queries of no class, by the highest probability)")
    if record.get("paper"):
        published = record["paper"]["published"]
        said.append(f"published  {_score(published, metric)}  ({record['paper']['citation']}, {record['paper']['table']})")
    return [*said, f"run  {_shown(directory)}", *page_lines(directory / "report" / "index.html")]


def _words(test: Mapping[str, Any]) -> list[str]:
    """What labelled words are scored by beside the mean of episodes' entity F1."""
    others = test["others"]
    if "pooled_f1" not in others:
        return []
    pooled, words = (_score(others[name], "accuracy") for name in ("pooled_f1", "accuracy"))
    return [f"entities  {pooled} F1 over those of all episodes", f"words  {words} accuracy"]


def _likelihoods(test: Mapping[str, Any]) -> list[str]:
    """What predictive distributions are worth, and what could have been reached where that is known."""
    others = test["others"]
    if "log_likelihood" not in others:
        return []
    covered = f"{100 * others['coverage']['mean']:.1f} % of the queries within the 90 % bands"
    said = [f"log-likelihood  {_score(others['log_likelihood'], 'nats')}  (of a query; {covered})"]
    if oracle := test.get("oracle"):
        said.append(f"at best  {_score(oracle['log_likelihood'], 'nats')}  ({oracle['name']}, same episodes)")
    return said


def _shown(path: Path) -> Path:
    """As seen from here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def page_lines(page: Path) -> list[str]:
    """Where a page is and how it is opened."""
    return [f"report  {_shown(page)}", f"open it with  python -m webbrowser {_shown(page)}"]


def print_summary(record: Mapping[str, Any], directory: Path) -> None:
    """Print it to standard output, first words aligned."""
    print_lines(lines(record, directory))


def print_lines(said: Sequence[str]) -> None:
    """Print lines to standard output, what stands before two spaces aligned."""
    print()
    for line in said:
        head, _, rest = line.partition("  ")
        print(f"{head:<20}{rest}")
