"""``metaloop reproduce``: run the experiments of papers, and compare their records with the published numbers."""

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.config.experiments import read_experiments
from metaloop.errors import UserError
from metaloop.records.runs import Run, find_runs
from metaloop.report.figures.published_picture import published_svg
from metaloop.report.pages.results_page import outcome, results_markdown
from metaloop.report.tables.pivot import newest
from metaloop.report.tables.published import Experiment, PublishedRow, published_rows, standing
from metaloop.system.files import write_atomically
from metaloop.system.suggestions import did_you_mean
from metaloop.system.terminal import printable

ROOT = Path("outputs") / "reproduce"
RECORDS = Path("docs") / "records"
KEPT = RECORDS / "reproduction"  # records that --keep copies


def main(options: argparse.Namespace) -> int:
    """Run the named experiments, keep records where ``--keep`` asks for it, and print the outcome of all experiments.

    Returns:
        Exit status 0, or 1 if a run failed or ``--check`` found a difference.

    Raises:
        UserError: a name is unknown, or a record or paper block cannot be read.
    """
    known = read_experiments(options.config_dir)
    names = [word for word in options.words if "=" not in word]
    for name in names:
        if name not in known:
            raise UserError(f"there is no experiment {name!r}; {did_you_mean(name, known)}experiments: {', '.join(known)}")
    overrides = [word for word in options.words if "=" in word]
    if overrides and not names:
        raise UserError(f"{overrides[0]}: name the experiments to run with this override")
    failed = 0
    if not options.check:
        for name in names:
            failed |= _run(known[name], overrides, options)
        if options.keep is not None:
            _keep(Path(options.keep), known)
    folders = [Path(folder) for folder in options.records] if options.records else _folders()
    if options.check and not folders and not Path(options.output).is_file():
        raise UserError(
            f"--check: there is neither {options.output} nor {RECORDS} here; give the command in a checkout of metaloop's "
            "repository, which has both"
        )
    return failed | _print_and_write(known, _records(folders, known), Path(options.output), check=options.check)


def standings(config_dirs: Sequence[str] = ()) -> dict[str, str]:
    """Say of every experiment, by name, what its records reproduce and in how many minutes; see :func:`standing`.

    Raises:
        UserError: a record or paper block cannot be read.
    """
    known = read_experiments(config_dirs)
    rows = published_rows(list(known.values()), _records(_folders(), known))
    return {name: standing([row for row in rows if row.experiment.name == name]) for name in known}


def _folders() -> list[Path]:
    """The default folders of records that exist."""
    return [folder for folder in (ROOT, RECORDS) if folder.is_dir()]


def _run(experiment: Experiment, overrides: Sequence[str], options: argparse.Namespace) -> int:
    """Run an experiment as a sweep over seeds, which can be interrupted and continued, and evaluate it in further settings.

    An experiment that has finished in ``outputs/reproduce`` is not run again.
    """
    from metaloop.cli import sweep as command
    from metaloop.cli.kept_records import evaluate_further, finished_runs

    folder = ROOT / experiment.name
    seeds = set(range(options.seeds))
    done = {record.seed for _, record, _ in finished_runs(folder, {experiment.name: experiment})} if folder.is_dir() else set()
    failed = 0
    if overrides or not seeds <= done:
        config_dirs = [word for each in options.config_dir for word in ("--config-dir", each)]
        words = [f"experiment={experiment.name}", f"seed={','.join(map(str, sorted(seeds)))}", f"hydra.sweep.dir={folder}"]
        failed = command.multirun([*words, *overrides, *config_dirs])
    for directory, _, _ in finished_runs(folder, {experiment.name: experiment}):
        evaluate_further(directory, experiment)
    return failed


def _keep(folder: Path, known: Mapping[str, Experiment]) -> None:
    """Evaluate the finished runs of a folder in further settings, and copy their records to :data:`KEPT`."""
    from metaloop.cli.kept_records import evaluate_further, finished_runs, keep

    for directory, record, experiment in finished_runs(folder, known):
        evaluate_further(directory, experiment)
        print(f"kept  {keep(directory, record, experiment, KEPT)}", flush=True)


def _records(folders: Sequence[Path], known: Mapping[str, Experiment]) -> dict[str, list[Run]]:
    """Find the finished runs and evaluations of each experiment; of several with one setting and seed, only the newest.

    Raises:
        UserError: a record cannot be read.
    """
    runs, failures = find_runs([folder for folder in folders if any(folder.rglob("record.json"))])
    if failures:
        raise UserError("\n".join(reason for _, reason in failures))
    by_experiment: dict[str, list[Run]] = {}
    for run in newest(_once(runs)):
        name = str(run.record.choices.get("experiment"))
        if name in known:
            by_experiment.setdefault(name, []).append(run)
    return by_experiment


def _once(runs: Sequence[Run]) -> list[Run]:
    """Runs without second copies, of which the last stays: kept records come after the runs that they are copies of."""

    def key(run: Run) -> tuple[object, ...]:
        record = run.record
        return record.name, record.created, record.seed, run.is_later_evaluation, record.overrides, run.test.mean

    return list({key(run): run for run in runs}.values())


def _print_and_write(known: Mapping[str, Experiment], records: Mapping[str, Sequence[Run]], page: Path, *, check: bool) -> int:
    """Print the outcome of each row, and write the page and its picture or compare them with the records."""
    rows = published_rows(list(known.values()), records)
    width = max((len(row.label) for row in rows), default=0)
    for row in rows:
        print(printable(f"{row.label:<{width}}  {_said(row)}"))
    svg = published_svg(rows)
    picture = page.parent / "images" / f"{page.stem}.svg"
    text = results_markdown(rows, None if svg is None else picture.relative_to(page.parent).as_posix())
    files = {page: text} | ({} if svg is None else {picture: svg})
    if check:
        return max(_checked(path, new) for path, new in files.items())
    for path, new in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"page{'':<{max(width - 4, 0)}}  {write_atomically(path, new)}")
    return 0


def _checked(path: Path, text: str) -> int:
    """Say whether a file is what the records give: exit status 0, or 1 with the differing lines."""
    old = path.read_text() if path.is_file() else ""
    if old == text:
        print(f"{path} agrees with the records")
        return 0
    difference = difflib.unified_diff(old.splitlines(), text.splitlines(), str(path), "the records", lineterm="", n=0)
    print(*map(printable, difference), sep="\n")
    print(f"metaloop: {path} and the records disagree; metaloop reproduce writes it again", file=sys.stderr)
    return 1


def _said(row: PublishedRow) -> str:
    if row.row is None or row.measured is None:
        return "not run yet"
    metric, training, n = row.metric or row.row.metric, (row.trained or row.row).first.training, row.row.spread.n
    published = f", published {row.comparison.published_text}" if row.comparison else ""
    steps = f"{training.steps if training else 'no'} outer steps"
    return f"{outcome(row)}: {metric.number(row.measured[0])}{published}; {steps}, {n} seed{'s' if n > 1 else ''}"
