"""What a finished run or evaluation tells the person who waits for it."""

from collections.abc import Sequence
from pathlib import Path

from metaloop.problems.metric import Metric
from metaloop.records.schema import Baseline, MetaTest, Published, Record, Statistic
from metaloop.report import formats

_LEFT_OUT = ("loss", "recall", "f1", "calibration_error", "rejection_by_logit")  # statistics that the page alone shows


def _score(part: MetaTest | Baseline | Published, metric: Metric) -> str:
    return metric.with_unit(metric.interval(part.mean, part.half_width))


def lines(record: Record, directory: Path) -> list[str]:
    """The summary, line by line."""
    test, metric = record.test, record.test.metric
    mode = f"norm {test.norm_mode}{', transductive' if test.transductive else ''}"
    size = f"{formats.percent(test.level)} interval, {test.episodes} episodes, {test.setting}"
    said = [f"meta-test {metric.title}  {_score(test, metric)}  ({size}, {mode})"]
    if record.choices.get("dataset") == "omniglot_challenge":  # whose results are published as errors
        said.append(f"error rate  {metric.with_unit(metric.number(1 - test.mean))}")
    if len(test.curve) > 1:
        curve = ", ".join(f"{point.step}: {metric.with_unit(metric.number(point.mean))}" for point in test.curve)
        said.append(f"after inner steps  {curve}")
    if test.baseline:
        said.append(f"baseline  {_score(test.baseline, metric)}  ({test.baseline.name}, same episodes)")
    said += [f"also  {_named(value)}" for name, value in test.others.items() if name not in _LEFT_OUT]
    if test.oracle:
        said += [f"at best  {_named(value)}  ({test.oracle.name}, same episodes)" for value in test.oracle.others.values()]
    if paper := record.paper:
        said.append(f"published  {_score(paper.published, metric)}  ({paper.citation}, {paper.table})")
    return [*said, f"run  {_shown(directory)}", *page_lines(directory / "report" / "index.html")]


def _named(value: Statistic) -> str:
    return f"{formats.statistic(value)} {value.metric.title}"


def _shown(path: Path) -> Path:
    """Relative to the working directory, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def page_lines(page: Path) -> list[str]:
    """Where a page is and how it is opened."""
    return [f"report  {_shown(page)}", f"open it with  python -m webbrowser {_shown(page)}"]


def print_summary(record: Record, directory: Path) -> None:
    """Print it to standard output, first words aligned."""
    print_lines(lines(record, directory))


def print_lines(said: Sequence[str]) -> None:
    """Print lines to standard output, what stands before two spaces aligned."""
    cells = [line.partition("  ") for line in said]
    width = max(20, *(len(head) + 2 for head, _, _ in cells))
    print()
    for head, _, rest in cells:
        print(f"{head:<{width}}{rest}")
