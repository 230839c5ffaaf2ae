"""Summary of a finished run or evaluation on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from metaloop.problems.metric import Metric
from metaloop.records.published import Published
from metaloop.records.schema import BaselineScore, MetaTest, Record, Statistic
from metaloop.report import formats
from metaloop.report.paper import published_metric
from metaloop.system.terminal import printable

_LEFT_OUT = ("loss", "recall", "f1", "calibration_error", "rejection_by_logit")  # statistics that only the page shows

_POINTS = 11  # most points of a curve that are printed


def _score(part: MetaTest | BaselineScore | Published, metric: Metric) -> str:
    return metric.with_unit(metric.interval(part.mean, part.half_width))


def lines(record: Record, directory: Path) -> list[str]:
    """Lines of the summary; two spaces separate a line's name from its content."""
    test, metric = record.test, record.test.metric
    mode = f"norm {test.norm_mode}{', transductive' if test.transductive else ''}"
    size = f"{formats.percent(test.level)} interval, {test.episodes} episodes, {test.setting}"
    messages = [f"meta-{test.split} {metric.title}  {_score(test, metric)}  ({size}, {mode})"]
    if record.choices.get("dataset") == "omniglot_challenge":  # whose results are published as errors
        messages.append(f"error rate  {metric.with_unit(metric.number(1 - test.mean))}")
    if len(test.curve) > 1:
        shown = [test.curve[index] for index in _evenly(len(test.curve))]
        curve = ", ".join(f"{point.step}: {metric.with_unit(metric.number(point.mean))}" for point in shown)
        messages.append(f"after {test.curve_over}s  {curve}")
    if test.baseline:
        messages.append(f"baseline  {_score(test.baseline, metric)}  ({test.baseline.name}, same episodes)")
    messages += [f"also  {_named(value)}" for name, value in test.others.items() if name not in _LEFT_OUT]
    if test.oracle:
        messages += [f"at best  {_named(value)}  ({test.oracle.name}, same episodes)" for value in test.oracle.others.values()]
    if (paper := record.paper) and paper.published is not None:
        theirs = published_metric(paper, test)
        of = "" if theirs == metric else f" {theirs.title}"
        messages.append(f"published  {_score(paper.published, theirs)}{of}  ({paper.citation}, {paper.table})")
    return [*messages, f"run  {_shown(directory)}", *page_lines(directory / "report" / "index.html")]


def _evenly(count: int) -> list[int]:
    """Indices of at most ``_POINTS`` points of a curve, the first and the last among them."""
    number = min(count, _POINTS)
    return sorted({round(index * (count - 1) / (number - 1)) for index in range(number)})


def _named(value: Statistic) -> str:
    return f"{formats.statistic(value)} {value.metric.title}"


def _shown(path: Path) -> Path:
    """Path relative to the working directory if it is below it."""
    working_directory = Path.cwd()
    return path.relative_to(working_directory) if path.is_relative_to(working_directory) else path


def page_lines(page: Path) -> list[str]:
    """Lines with the path of a page and the command that opens it."""
    return [f"report  {_shown(page)}", f"open it with  python -m webbrowser {_shown(page)}"]


def print_summary(record: Record, directory: Path) -> None:
    """Print the summary to standard output, with the names aligned."""
    print_lines(lines(record, directory))


def print_lines(messages: Sequence[str]) -> None:
    """Print lines to standard output; the parts before two spaces are aligned, and control characters are escaped."""
    cells = [printable(line).partition("  ") for line in messages]
    width = max(20, *(len(head) + 2 for head, _, _ in cells))
    print()
    for head, _, rest in cells:
        print(f"{head:<{width}}{rest}")
