"""``metaloop report``, ``compare`` and ``reproduce``: their words, before anything heavy is imported."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metaloop.cli import help_texts
from metaloop.errors import UserError

if TYPE_CHECKING:  # help comes without waiting for numpy
    from metaloop.records.runs import Run
    from metaloop.report.tables.question import Question

_NAMED = 12  # values that a message names


def report(argv: list[str]) -> int:
    """The words after ``metaloop report``: writes the page, prints the pivot where one was asked for."""
    parser = help_texts.parser("report", help_texts.REPORT)
    parser.add_argument("runs", nargs="+", metavar="DIR", help="a run directory, or a folder of runs such as a sweep's")
    parser.add_argument(
        "--rows", type=_keys, default=(), metavar="KEY,...", help="a row for each combination of these keys' values"
    )
    parser.add_argument("--columns", type=_keys, default=(), metavar="KEY,...", help="and a column for each of these")
    parser.add_argument("--over", type=_keys, default=(), metavar="KEY,...", help="average over these")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE,...", help="only runs with one of these values"
    )
    parser.add_argument("--baseline", metavar="KEY=VALUE,...", help="the row that all others are compared with")
    parser.add_argument("--output", metavar="DIR", default="report", help="where to write (default: ./report)")
    given = parser.parse_args(argv)
    for run in given.runs:
        if not Path(run).is_dir():
            raise UserError(f"report {run}: there is no such folder; runs lie under outputs/")
    from metaloop.report.pages.page import make_report

    runs, output = [Path(run) for run in given.runs], Path(given.output)
    report = make_report(runs, output, lambda found: _question(found, given), _choice(given.where))
    if given.rows or given.columns:
        print(*[path.read_text() for path in sorted(output.glob("pivot*.md"))], sep="\n")
    for sweep in report.sweeps:
        print(f"sweep  {sweep.folder}: {sweep.text}")
    for failure in report.failures:
        print(f"not in the tables  {failure.path}: {failure.reason}")
    print(f"report  {report.page}\nopen it with  python -m webbrowser {shlex.quote(report.page.resolve().as_uri())}")
    return 0


def _keys(text: str) -> tuple[str, ...]:
    return tuple(key.strip() for key in text.split(",") if key.strip())


def _question(runs: "Sequence[Run]", given: argparse.Namespace) -> "Question | None":
    """What the options ask of these runs; what they leave open is chosen from the keys in which runs differ."""
    from dataclasses import replace

    from metaloop.report.tables.question import default_question

    question = default_question(runs, given.rows, given.columns, given.over)
    if question is None:
        if given.baseline or given.over:
            raise UserError("these runs differ in no override; name --rows")
        return None
    return replace(question, baseline=_baseline(given.baseline, question))


def _baseline(text: str | None, question: "Question") -> dict[str, str] | None:
    if text is None:
        return None
    if "=" not in text and len(question.rows) == 1:
        return {question.rows[0]: text}
    return dict(_pair(part, "--baseline") for part in text.split(","))


def _choice(conditions: Sequence[str]) -> "Callable[[Sequence[Run]], list[Run]]":
    """Takes the runs that fit every condition; ``KEY=A,B`` is either, or the value ``A,B``."""
    wanted = [_pair(text, "--where") for text in conditions]

    def choose(runs: "Sequence[Run]") -> "list[Run]":
        from metaloop.report.tables.facts import checked_keys

        checked_keys(runs, [key for key, _ in wanted])
        chosen = list(runs)
        for key, text in wanted:
            chosen = _fitting(chosen, key, text)
        return chosen

    return choose


def _fitting(runs: "Sequence[Run]", key: str, text: str) -> "list[Run]":
    from metaloop.report.tables.facts import fact, fits, levels, show

    told = (text, *text.split(","))
    chosen = [run for run in runs if any(fits(fact(run, key), each) for each in told)]
    if not chosen:
        there = [show(value) for value in levels(fact(run, key) for run in runs)]
        said = ", ".join(there[:_NAMED]) + (f" and {len(there) - _NAMED} more" if len(there) > _NAMED else "")
        raise UserError(f"--where {key}={text} fits none of {len(runs)} runs; {key} is one of {said}")
    return chosen


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"{option} {text}: give it as KEY=VALUE")
    return key, value


def reproduce(argv: list[str]) -> int:
    """The words after ``metaloop reproduce``; see :mod:`metaloop.cli.reproduce`."""
    parser = help_texts.parser("reproduce", help_texts.REPRODUCE)
    parser.add_argument(
        "words", nargs="*", metavar="EXPERIMENT KEY=VALUE", help="run where there is no record; none: only look"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="to run each under (default: 1)")
    places = "where records lie (default: docs/records and outputs/reproduce)"
    parser.add_argument("--records", action="append", default=[], metavar="DIR", help=places)
    parser.add_argument("--output", default="docs/results.md", metavar="FILE", help="the page (default: docs/results.md)")
    parser.add_argument("--check", action="store_true", help="only say whether the page and the records agree")
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="your own configuration")
    given = parser.parse_intermixed_args(argv)
    from metaloop.cli.reproduce import main

    return main(given)


def compare(argv: list[str]) -> int:
    """The words after ``metaloop compare``; see :mod:`metaloop.evaluation.comparison`."""
    parser = help_texts.parser("compare", help_texts.COMPARE)
    parser.add_argument("first", metavar="A", help="a run directory, or a later evaluation's")
    parser.add_argument("second", metavar="B", help="the same")
    parser.add_argument("--output", metavar="DIR", default="comparison", help="where to write (default: ./comparison)")
    given = parser.parse_args(argv)
    for run in (given.first, given.second):
        if not Path(run).is_dir():
            raise UserError(f"compare {run}: there is no such folder; runs lie under outputs/")
    from metaloop.evaluation.comparison import compare as compare_runs
    from metaloop.evaluation.comparison import lines
    from metaloop.report.summary import page_lines, print_lines

    found, page = compare_runs(Path(given.first), Path(given.second), Path(given.output))
    print_lines([*lines(found), *page_lines(page)])
    return 0
