"""``metaloop sweep``: start or go on with a sweep, look at it, mend it."""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metaloop.cli import help_texts
from metaloop.errors import UserError
from metaloop.records.jobs import LEDGER, LOG, RUNNING, STATES, Job
from metaloop.sweeps.ledger import Ledger
from metaloop.sweeps.plan import Plan, read_plan

ROOT = Path("outputs") / "sweeps"
VERBS = ("status", "show", "retry", "cancel", "list")
_TAIL = 30  # lines of a log that are shown
_FOR_HYDRA = ("hydra.sweep.dir", "hydra.run.dir", "hydra.sweep.subdir")


def main(argv: list[str]) -> int:
    """The words after ``metaloop sweep``."""
    if argv and argv[0] in VERBS:
        return _verb(argv[0], argv[1:])
    given = _parser().parse_intermixed_args(argv)
    if not given.words or "=" in given.words[0]:
        raise UserError("name a sweep: metaloop sweep NAME [overrides]; metaloop sweep list names them")
    name, *overrides = given.words
    return run(read_plan(name, given.config_dir), overrides, given, ROOT / name)


def multirun(argv: list[str]) -> int:
    """The words of ``metaloop train -m``: a sweep over the overrides themselves, or over ``sweep=NAME``."""
    given = _parser().parse_intermixed_args([word for word in argv if word not in ("-m", "--multirun")])
    names = [word.removeprefix("sweep=") for word in given.words if word.startswith("sweep=")]
    overrides = [word for word in given.words if not word.startswith("sweep=")]
    if names:
        return run(read_plan(names[-1], given.config_dir), overrides, given, ROOT / names[-1])
    lasting = sorted(word for word in overrides if not word.startswith("hydra"))
    name = f"sweep_{hashlib.sha256(repr(lasting).encode()).hexdigest()[:8]}"
    named = [word.removeprefix("name=") for word in overrides if word.startswith("name=") and "," not in word]
    return run(Plan(name), overrides, given, Path("outputs") / (named[-1] if named else "sweeps") / name)


def run(plan: Plan, overrides: Sequence[str], given: argparse.Namespace, directory: Path) -> int:
    """Start the plan, or go on with it, in ``directory`` or where ``hydra.sweep.dir`` says."""
    from metaloop.sweeps.compose import with_overrides
    from metaloop.sweeps.devices import Machine
    from metaloop.sweeps.driver import sweep
    from metaloop.sweeps.options import Options

    said = {key: value for key, _, value in (word.partition("=") for word in overrides) if key in _FOR_HYDRA}
    for key in ("hydra.run.dir", "hydra.sweep.subdir"):
        if key in said:
            raise UserError(f"{key}: runs of a sweep have directories of their own; choose the sweep's by hydra.sweep.dir")
    directory = Path(said.get("hydra.sweep.dir", directory))
    plan = with_overrides(plan, [word for word in overrides if word.partition("=")[0] not in _FOR_HYDRA], given.config_dir)
    machine = Machine.detect(given.gpus.split(",") if given.gpus else None, given.per_gpu, given.jobs, given.threads)
    if given.retries < 0 or given.stale <= 0:
        raise UserError("--retries is at least 0, --stale above 0")
    options = Options(directory, given.config_dir, machine, given.retries, given.stale, given.dry_run)
    return sweep(replace(plan, name=directory.name), options)


def _parser() -> argparse.ArgumentParser:
    about, _, examples = help_texts.SWEEP.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="metaloop sweep",
        usage="metaloop sweep NAME [KEY=VALUE ...] [options]\n       metaloop sweep status|show|retry|cancel|list ...",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="NAME KEY=VALUE", help="the sweep, and overrides of all its runs")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and how long they may take")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at once on the CPU (default: one a core)")
    parser.add_argument("--threads", type=int, metavar="N", help="of a run on the CPU (default: the cores shared by --jobs)")
    parser.add_argument("--gpus", metavar="0,1,...", help="to use (default: all)")
    parser.add_argument("--per-gpu", type=int, default=1, metavar="N", help="runs at once on one GPU (default: 1)")
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="of a run that failed (default: 2)")
    parser.add_argument("--stale", type=float, default=60, metavar="S", help="silent seconds before a run is taken over")
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="your own configuration")
    return parser


def _verb(verb: str, argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"metaloop sweep {verb}", allow_abbrev=False)
    parser.add_argument("sweep", nargs="?" if verb in ("status", "list") else None, help="its name or folder")
    parser.add_argument("runs", nargs="*", help="numbers, or the beginnings of directories or keys (default: all)")
    parser.add_argument("--stale", type=float, default=60, help=argparse.SUPPRESS)
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help="your own configuration")
    given = parser.parse_args(argv)
    if verb == "list":
        from metaloop.config.listing import show

        show("sweeps", given.config_dir)
        return 0
    if given.sweep is None:
        return _all_sweeps(given.stale)
    ledger = Ledger(_directory(given.sweep), given.stale)
    jobs = [job for job in ledger.jobs() if not given.runs or any(_is(job, word) for word in given.runs)]
    if not jobs:
        raise UserError(f"no run of {ledger.directory} is {' or '.join(given.runs) or 'there'}; see metaloop sweep status")
    if verb == "status":
        _status(ledger, jobs)
    elif verb == "show":
        for job in jobs:
            _show(ledger, job)
    elif verb == "retry":
        print(f"{ledger.retry([job.key for job in jobs])} runs wait to be started again: give the sweep's command once more")
    else:
        print(f"{ledger.cancel([job.key for job in jobs])} runs are cancelled; retry lets them run again")
    return 0


def _directory(word: str) -> Path:
    """Of the sweep of this name, or in this folder."""
    for folder in (Path(word), ROOT / word):
        if (folder / LEDGER).exists():
            return folder
    raise UserError(f"{word} is no sweep: neither {Path(word)} nor {ROOT / word} has a {LEDGER}; see metaloop sweep status")


def _is(job: Job, word: str) -> bool:
    return word == str(job.number) or job.directory.startswith(word) or (len(word) > 3 and job.key.startswith(word))


def _all_sweeps(stale: float) -> int:
    found = sorted(Path("outputs").rglob(LEDGER))
    if not found:
        print("no sweep below outputs; metaloop sweep list names those that can be started")
    for path in found:
        print(f"{path.parent}  {_counts(Ledger(path.parent).jobs(), stale)}")
    return 0


def _counts(jobs: Sequence[Job], stale: float) -> str:
    from metaloop.sweeps.driver import summary

    count = summary(jobs, stale)
    return f"{len(jobs)} runs: " + ", ".join(f"{count[state]} {state}" for state in STATES if count[state])


def _status(ledger: Ledger, jobs: Sequence[Job]) -> None:
    from metaloop.sweeps.driver import duration, score

    print(f"{ledger.directory}  {_counts(jobs, ledger.stale)}")
    width = max(len(job.directory) for job in jobs)
    for job in jobs:
        gone = job.abandoned(ledger.stale)
        state = "interrupted" if gone else job.state
        running = max(0.0, time.time() - (job.started or 0)) if state == RUNNING else 0.0
        where = f"{job.host} {job.device or ''}".strip() if state == RUNNING else ""
        what = score(job) or (job.error or "").splitlines()[0][:100] if job.result or job.error else where
        tries = f"{job.attempts} tries" if job.attempts > 1 else ""
        line = (
            f"{job.number:>4}  {state:<11}  {job.directory:<{width}}  {duration(job.seconds + running):>8}  {tries:<8}  {what}"
        )
        print(line.rstrip())


def _show(ledger: Ledger, job: Job) -> None:
    from metaloop.sweeps.driver import duration, score

    directory = ledger.directory / job.directory
    rows = {
        "run": f"{job.number}  {directory}", "state": "interrupted" if job.abandoned(ledger.stale) else job.state,
        "command": f"metaloop train {' '.join(job.overrides)}", "key": job.key,
        "tries": f"{job.attempts}, of which {job.failures} failed; {duration(job.seconds)} in all",
        "where": f"{job.host or '-'}, process {job.pid or '-'}, device {job.device or '-'}", "score": score(job) or "-",
        "error": job.error or "-",
    }  # fmt: skip
    for name, value in rows.items():
        print(f"{name:<10}{value}")
    try:
        lines = (directory / LOG).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if lines:
        print(f"the end of {directory / LOG}:", *lines[-_TAIL:], sep="\n  ")
    sys.stdout.flush()
