"""``metaloop reproduce``: run the experiments of papers, and compare their records with the published numbers."""

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
from metaloop.system.terminal import printable

ROOT = Path("outputs") / "reproduce"
KEPT = (Path("docs") / "records", ROOT)  # default folders of finished records


def experiments(config_dirs: Sequence[str] = ()) -> dict[str, Paper]:
    """Read the paper blocks of all experiments that have one, by name of the experiment.

    Raises:
        UserError: a block is wrong; the message names its file.
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


def main(options: argparse.Namespace) -> int:
    """Run the named experiments that have no record, and print the outcome of all experiments.

    Returns:
        Exit status 0, or 1 if a run failed or ``--check`` found a difference.

    Raises:
        UserError: a name is unknown, or a record or paper block cannot be read.
    """
    known = experiments(options.config_dir)
    names = [word for word in options.words if "=" not in word]
    for name in names:
        if name not in known:
            raise UserError(
                f"no experiment {name!r} has a paper block; {did_you_mean(name, known)}"
                f"experiments with one: {', '.join(known) or 'none'}"
            )
    overrides = [word for word in options.words if "=" in word]
    if overrides and not names:
        raise UserError(f"{overrides[0]}: name the experiments to run with this override")
    folders = [Path(folder) for folder in options.records] if options.records else [path for path in KEPT if path.is_dir()]
    failed = 0
    if not options.check:
        done = {} if overrides else _records(folders, known)
        for name in names:
            if name not in done:
                failed |= _run(name, overrides, options)
    folders = [*folders, *([ROOT] if ROOT.is_dir() and ROOT not in folders and not options.records else [])]
    return failed | _print_and_write(known, _records(folders, known), Path(options.output), check=options.check)


def _run(name: str, overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Run an experiment as a sweep over seeds, which can be interrupted and continued."""
    from metaloop.cli import sweep as command

    folder = f"hydra.sweep.dir={ROOT / name}"
    config_dirs = [word for each in options.config_dir for word in ("--config-dir", each)]
    seeds = ",".join(map(str, range(options.seeds)))
    return command.multirun([f"experiment={name}", f"seed={seeds}", folder, *overrides, *config_dirs])


def _records(folders: Sequence[Path], known: Mapping[str, Paper]) -> dict[str, list[Run]]:
    """Find the finished runs of each experiment; of several with one setting and seed, only the newest.

    Raises:
        UserError: a record cannot be read.
    """
    runs, failures = find_runs([folder for folder in folders if any(folder.rglob("record.json"))])
    if failures:
        raise UserError("\n".join(reason for _, reason in failures))
    by_experiment: dict[str, list[Run]] = {}
    for run in newest(runs):
        name = str(run.record.choices.get("experiment"))
        if name in known and run.paper and not run.is_later_evaluation:
            by_experiment.setdefault(name, []).append(run)
    return by_experiment


def _print_and_write(known: Mapping[str, Paper], records: Mapping[str, Sequence[Run]], page: Path, *, check: bool) -> int:
    """Print the outcome of each experiment, and write the page or compare it with the records."""
    rows = {name: group_rows(runs) for name, runs in records.items()}
    width = max((len(name) for name in known), default=0)
    for name in known:
        for line in [_outcome(row) for row in rows.get(name, [])] or ["not run"]:
            print(printable(f"{name:<{width}}  {line}"))
    missing = [NotRun(name, paper) for name, paper in known.items() if name not in rows]
    text = results_markdown([run for runs in records.values() for run in runs], missing)
    if not check:
        print(f"page{'':<{max(width - 4, 0)}}  {write_atomically(page, text)}")
        return 0
    old = page.read_text() if page.is_file() else ""
    if old == text:
        print(f"{page} agrees with the records")
        return 0
    difference = difflib.unified_diff(old.splitlines(), text.splitlines(), str(page), "the records", lineterm="", n=0)
    print(*map(printable, difference), sep="\n")
    print(f"metaloop: {page} and the records disagree; metaloop reproduce writes the page again", file=sys.stderr)
    return 1


def _outcome(row: Row) -> str:
    comparison, training = row.comparison, row.first.training
    assert comparison is not None
    measured = comparison.metric.number(comparison.measured)
    seeds = f"{row.spread.n} seed{'s' if row.spread.n > 1 else ''}"
    steps = f"{training.steps if training else 'no'} outer steps"
    return f"{comparison.outcome}: {measured}, published {comparison.published_text}; {steps}, {seeds}"
