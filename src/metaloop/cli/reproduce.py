"""``metaloop reproduce``: the experiments of papers, run or taken from their records, and the page that compares them."""

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.runs import Run, find_runs
from metaloop.records.schema import Paper
from metaloop.report.pages.results_page import NotRun, results_markdown
from metaloop.report.paper import check_paper, metric_of, read_paper
from metaloop.report.tables.pivot import newest
from metaloop.report.tables.rows import Row, group_rows
from metaloop.system.files import write_atomically
from metaloop.system.suggestions import did_you_mean

ROOT = Path("outputs") / "reproduce"
KEPT = (Path("docs") / "records", ROOT)  # where finished records are looked for


def experiments(config_dirs: Sequence[str] = ()) -> dict[str, Paper]:
    """The paper blocks of all experiments that have one, by the experiment's name.

    Raises:
        UserError: a block is wrong; names the experiment.
    """
    import yaml

    from metaloop.config.folder import conf_dir

    papers: dict[str, Paper] = {}
    for folder in (*map(Path, config_dirs), conf_dir()):
        for path in sorted((folder / "experiment").glob("*.yaml")):
            block = (yaml.safe_load(path.read_text()) or {}).get("paper")
            if block and path.stem not in papers:
                try:
                    papers[path.stem] = read_paper(block)
                    check_paper(papers[path.stem], metric_of(papers[path.stem]))
                except UserError as error:
                    raise UserError(f"{path}: {error}") from error
    return dict(sorted(papers.items()))


def main(given: argparse.Namespace) -> int:
    """Run what is to be run and say how all fare.

    Returns 0 where all that was asked for is done, 1 where not, or where ``--check`` found a difference.
    """
    known = experiments(given.config_dir)
    names = [word for word in given.words if "=" not in word]
    for name in names:
        if name not in known:
            raise UserError(
                f"no experiment {name!r} has a paper block; {did_you_mean(name, known)}those are {', '.join(known) or 'none'}"
            )
    overrides = [word for word in given.words if "=" in word]
    if overrides and not names:
        raise UserError(f"{overrides[0]}: name the experiments to run with it")
    places = [Path(place) for place in given.records] if given.records else [place for place in KEPT if place.is_dir()]
    failed = 0
    if not given.check:
        done = {} if overrides else _records(places, known)
        for name in names:
            if name not in done:
                failed |= _run(name, overrides, given)
    places = [*places, *([ROOT] if ROOT.is_dir() and ROOT not in places and not given.records else [])]
    return failed | _tell(known, _records(places, known), Path(given.output), check=given.check)


def _run(name: str, overrides: Sequence[str], given: argparse.Namespace) -> int:
    """Run it as a sweep over seeds, which can be interrupted and goes on."""
    from metaloop.cli import sweep as command

    if given.seeds < 1:
        raise UserError(f"--seeds {given.seeds}: at least 1")
    folder = f"hydra.sweep.dir={ROOT / name}"
    options = [word for each in given.config_dir for word in ("--config-dir", each)]
    seeds = ",".join(map(str, range(given.seeds)))
    return command.multirun([f"experiment={name}", f"seed={seeds}", folder, *overrides, *options])


def _records(places: Sequence[Path], known: Mapping[str, Paper]) -> dict[str, list[Run]]:
    """The finished runs of each experiment; of several of one setting and seed the newest.

    Raises:
        UserError: a record cannot be read.
    """
    runs, failures = find_runs([place for place in places if any(place.rglob("record.json"))])
    if failures:
        raise UserError("\n".join(reason for _, reason in failures))
    found: dict[str, list[Run]] = {}
    for run in newest(runs):
        name = str(run.record.choices.get("experiment"))
        if name in known and run.paper and not run.is_later_evaluation:
            found.setdefault(name, []).append(run)
    return found


def _tell(known: Mapping[str, Paper], records: Mapping[str, Sequence[Run]], page: Path, *, check: bool) -> int:
    """Say how each experiment fares, and write the page or compare it."""
    rows = {name: group_rows(runs) for name, runs in records.items()}
    width = max((len(name) for name in known), default=0)
    for name in known:
        for line in [_outcome(row) for row in rows.get(name, [])] or ["not run"]:
            print(f"{name:<{width}}  {line}")
    missing = [NotRun(name, paper) for name, paper in known.items() if name not in rows]
    text = results_markdown([run for runs in records.values() for run in runs], missing)
    if not check:
        print(f"page{'':<{max(width - 4, 0)}}  {write_atomically(page, text)}")
        return 0
    there = page.read_text() if page.is_file() else ""
    if there == text:
        print(f"{page} says what the records say")
        return 0
    difference = difflib.unified_diff(there.splitlines(), text.splitlines(), str(page), "the records", lineterm="", n=0)
    print(*difference, sep="\n")
    print(f"metaloop: {page} and the records disagree; metaloop reproduce writes it anew", file=sys.stderr)
    return 1


def _outcome(row: Row) -> str:
    comparison, training = row.comparison, row.first.training
    assert comparison is not None
    measured = comparison.metric.number(comparison.measured)
    seeds = f"{row.spread.n} seed{'s' if row.spread.n > 1 else ''}"
    steps = f"{training.steps if training else 'no'} outer steps"
    return f"{comparison.outcome}: {measured}, published {comparison.published_text}; {steps}, {seeds}"
