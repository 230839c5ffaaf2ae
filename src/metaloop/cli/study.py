"""``metaloop study``: train, evaluate and keep what a study needs, and write its page from the records alone."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaloop.cli import help_texts
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean
from metaloop.system.terminal import printable

if TYPE_CHECKING:  # help should not wait for numpy and matplotlib
    from metaloop.records.runs import Run
    from metaloop.records.studies import StudyRecord
    from metaloop.report.studies.parts import StudyPage

STUDIES = ("number", "reuse", "minutes")
PREFIX = "study_"  # of the sweep, the page and its pictures
RECORDS = Path("docs") / "records" / "studies"
_OF_EVALUATIONS = "evaluation."  # overrides that go to the evaluations, too


def main(argv: list[str]) -> int:
    """Run ``metaloop study`` with these words.

    Returns:
        Exit status 0, or 1 if a training failed or ``--check`` found a difference.
    """
    parser = help_texts.parser("study", help_texts.STUDY)
    parser.add_argument("words", nargs="*", metavar="NAME KEY=VALUE", help=f"one of {', '.join(STUDIES)}, and overrides")
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at once (default: one for each core)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a training (default: cores / jobs)")
    parser.add_argument("--check", action="store_true", help="only check whether pages and records agree")
    parser.add_argument("--docs", default="docs", metavar="DIR", help="folder of the pages (default: docs)")
    options = parser.parse_intermixed_args(argv)
    names = [word for word in options.words if "=" not in word]
    for name in names:
        if name not in STUDIES:
            raise UserError(f"there is no study {name!r}; {did_you_mean(name, STUDIES)}studies: {', '.join(STUDIES)}")
    overrides = [word for word in options.words if "=" in word]
    if len(names) > 1 or (overrides and not names) or (options.check and overrides):
        raise UserError("name one study to run, with overrides; without a name, pages are written from the kept records")
    failed = 0
    if names and not options.check:
        more = [f"--{key}={value}" for key in ("jobs", "threads") if (value := getattr(options, key)) is not None]
        failed = _run(names[0], overrides, more)
    for name in names or STUDIES:
        if (RECORDS / name).is_dir():
            failed |= _page(name, Path(options.docs), check=options.check)
        elif names:
            raise UserError(f"{RECORDS / name} does not exist; run the study in a checkout: metaloop study {name}")
    return failed


def _run(name: str, overrides: Sequence[str], more: Sequence[str]) -> int:
    """Train what is missing, evaluate what has finished, and keep the records."""
    from metaloop.cli import sweep as command
    from metaloop.evaluation.studies import evaluate_settings, inspected, study_record
    from metaloop.records.runs import read_run
    from metaloop.records.schema import RECORD
    from metaloop.records.studies import write_study
    from metaloop.sweeps.compose import compose_runs, with_overrides
    from metaloop.sweeps.plan import read_plan

    of_evaluations = dict(word.split("=", 1) for word in overrides if word.startswith(_OF_EVALUATIONS))
    sweep = f"{PREFIX}{name}"
    failed = command.main([sweep, *overrides, *more])
    plan = with_overrides(read_plan(sweep), overrides, [])
    settings = [{**of_evaluations, **each} for each in plan.evaluations]
    runs: list[tuple[dict[str, str], Run, Mapping[str, Any] | None]] = []
    evaluations: list[tuple[int, Mapping[str, str], Run]] = []
    for one in compose_runs(plan, []):
        directory = command.ROOT / sweep / one.directory
        if not (directory / RECORD).exists():
            print(printable(f"left out  {directory}: it has not finished"))
            continue
        own = dict(word.split("=", 1) for word in one.overrides)
        evaluations += [(len(runs), each, run) for each, run in evaluate_settings(directory, settings)]
        measured = inspected(directory, plan.inspect, settings[0]) if plan.inspect else None
        runs.append(({key: own[key] for key in plan.varied() if key in own}, read_run(directory), measured))
    words = ["metaloop", "study", name, *map(shlex.quote, overrides)]
    write_study(RECORDS / name, study_record(name, words, runs, evaluations))
    return failed


def _page(name: str, docs: Path, *, check: bool) -> int:
    """Write a study's page and pictures, or check the page."""
    from metaloop.records.studies import read_study
    from metaloop.system.files import write_atomically

    made, path = _maker(name)(read_study(RECORDS / name)), docs / f"{PREFIX}{name}.md"
    if check:
        same = path.is_file() and path.read_text() == made.text
        wrong = f"metaloop: {path} and the records disagree; metaloop study writes it again"
        print(f"{path} agrees with the records" if same else wrong, file=sys.stdout if same else sys.stderr)
        return 0 if same else 1
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for picture, content in made.pictures.items():
        write_atomically(docs / "images" / picture, content)
    print(f"page  {write_atomically(path, made.text)}")
    return 0


def _maker(name: str) -> "Callable[[StudyRecord], StudyPage]":
    from metaloop.report.studies import minutes, number, reuse

    return {"number": number.page, "reuse": reuse.page, "minutes": minutes.page}[name]
