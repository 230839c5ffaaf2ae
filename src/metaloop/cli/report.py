"""``metaloop report``, ``compare`` and ``reproduce``: parse their options before anything slow is imported."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metaloop.cli import help_texts
from metaloop.errors import UserError
from metaloop.system.terminal import printable

if TYPE_CHECKING:  # otherwise help would wait for numpy
    from metaloop.records.runs import Run
    from metaloop.report.tables.question import Question

_LISTED = 12  # most values that a message lists


def report(argv: list[str]) -> int:
    """Run ``metaloop report`` with these words: write the page, and print the pivot table if rows or columns are given."""
    parser = help_texts.parser("report", help_texts.REPORT)
    parser.add_argument("runs", nargs="+", metavar="DIR", help="a run directory, or a folder of runs such as a sweep's")
    parser.add_argument(
        "--rows", type=_keys, default=(), metavar="KEY,...", help="one row for each combination of values of these keys"
    )
    parser.add_argument(
        "--columns", type=_keys, default=(), metavar="KEY,...", help="one column for each combination of values of these"
    )
    parser.add_argument("--over", type=_keys, default=(), metavar="KEY,...", help="average over these")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE,...", help="only runs with one of these values"
    )
    parser.add_argument("--baseline", metavar="KEY=VALUE,...", help="the row that all others are compared with")
    parser.add_argument("--output", metavar="DIR", default="report", help="where to write (default: ./report)")
    options = parser.parse_args([word.removeprefix("run=") for word in argv])
    for condition in options.where:
        _pair(condition, "--where")
    for run in options.runs:
        if not Path(run).is_dir():
            raise UserError(f"report {run}: there is no such folder; runs are in folders below outputs/")
    from metaloop.report.pages.page import make_report

    folders, output = [Path(run) for run in options.runs], Path(options.output)
    report = make_report(folders, output, lambda runs: _question(runs, options), _choice(options.where))
    if options.rows or options.columns:
        print(*[printable(path.read_text()) for path in sorted(output.glob("pivot*.md"))], sep="\n")
    for sweep in report.sweeps:
        print(printable(f"sweep  {sweep.folder}: {sweep.text}"))
    for failure in report.failures:
        print(printable(f"not in the tables  {failure.path}: {failure.reason}"))
    print(f"report  {report.page}\nopen it with  python -m webbrowser {shlex.quote(report.page.resolve().as_uri())}")
    return 0


def _keys(text: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in text.split(",") if key.strip())


def _question(runs: "Sequence[Run]", options: argparse.Namespace) -> "Question | None":
    """Make the question for the pivot table from the options; missing ones are chosen from the keys in which runs differ."""
    from dataclasses import replace

    from metaloop.report.tables.question import default_question

    question = default_question(runs, options.rows, options.columns, options.over)
    if question is None:
        if options.baseline or options.over:
            raise UserError("these runs differ in no override; name the keys of rows with --rows")
        return None
    return replace(question, baseline=_baseline(options.baseline, question))


def _baseline(text: str | None, question: "Question") -> dict[str, str] | None:
    if text is None:
        return None
    if "=" not in text and len(question.rows) == 1:
        return {question.rows[0]: text}
    return dict(_pair(part, "--baseline") for part in text.split(","))


def _choice(conditions: Sequence[str]) -> "Callable[[Sequence[Run]], list[Run]]":
    """Make a filter of the runs that meet every condition; ``KEY=A,B`` means A, B or the value ``A,B``."""
    pairs = [_pair(text, "--where") for text in conditions]

    def choose(runs: "Sequence[Run]") -> "list[Run]":
        from metaloop.report.tables.facts import checked_keys

        checked_keys(runs, [key for key, _ in pairs])
        chosen = list(runs)
        for key, text in pairs:
            chosen = _fitting(chosen, key, text)
        return chosen

    return choose


def _fitting(runs: "Sequence[Run]", key: str, text: str) -> "list[Run]":
    from metaloop.report.tables.facts import fact, fits, levels, show

    values = (text, *text.split(","))
    chosen = [run for run in runs if any(fits(fact(run, key), value) for value in values)]
    if not chosen:
        present = [show(value) for value in levels(fact(run, key) for run in runs)]
        listed = ", ".join(present[:_LISTED]) + (f" and {len(present) - _LISTED} more" if len(present) > _LISTED else "")
        raise UserError(f"--where {key}={text} fits none of {len(runs)} runs; {key} is one of {listed}")
    return chosen


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"{option} {text}: write KEY=VALUE")
    return key, value


def reproduce(argv: list[str]) -> int:
    """Run ``metaloop reproduce`` with these words; see :mod:`metaloop.cli.reproduce`."""
    parser = help_texts.parser("reproduce", help_texts.REPRODUCE)
    parser.add_argument("words", nargs="*", metavar="EXPERIMENT KEY=VALUE", help="experiments to run, and overrides")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds of each experiment (default: 1)")
    folders = "folder of records (default: docs/records and outputs/reproduce)"
    parser.add_argument("--records", action="append", default=[], metavar="DIR", help=folders)
    parser.add_argument("--output", default="docs/results.md", metavar="FILE", help="the page (default: docs/results.md)")
    parser.add_argument("--check", action="store_true", help="only check whether the page and the records agree")
    kept = "copy records of the finished runs in DIR to docs/records/reproduction (default: outputs/sweeps/reproduction)"
    parser.add_argument("--keep", nargs="?", const="outputs/sweeps/reproduction", metavar="DIR", help=kept)
    config_dir = "folder of your own configuration"
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help=config_dir)
    options = parser.parse_intermixed_args(argv)
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: must be at least 1")
    from metaloop.cli.reproduce import main

    return main(options)


def compare(argv: list[str]) -> int:
    """Run ``metaloop compare`` with these words; see :mod:`metaloop.evaluation.comparison`."""
    parser = help_texts.parser("compare", help_texts.COMPARE)
    parser.add_argument("first", metavar="A", help="directory of a run or of a later evaluation")
    parser.add_argument("second", metavar="B", help="the same")
    parser.add_argument("--output", metavar="DIR", default="comparison", help="where to write (default: ./comparison)")
    options = parser.parse_args(argv)
    for run in (options.first, options.second):
        if not Path(run).is_dir():
            raise UserError(f"compare {run}: there is no such folder; runs are in folders below outputs/")
    from metaloop.evaluation.comparison import compare as compare_runs
    from metaloop.evaluation.comparison import lines
    from metaloop.report.summary import page_lines, print_lines

    comparison, page = compare_runs(Path(options.first), Path(options.second), Path(options.output))
    print_lines([*lines(comparison), *page_lines(page)])
    return 0
