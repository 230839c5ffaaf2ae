"""``metaloop sweep``: start, continue, show, retry and cancel sweeps."""

import argparse
import hashlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metaloop.cli import help_texts
from metaloop.errors import UserError
from metaloop.records.jobs import LEDGER, LOG, RUNNING, STATES, Job
from metaloop.sweeps.ledger import Ledger
from metaloop.sweeps.shard import Shard
from metaloop.system.terminal import printable

if TYPE_CHECKING:  # it imports Hydra, for which help should not wait
    from metaloop.sweeps.plan import Plan

ROOT = Path("outputs") / "sweeps"
VERBS = ("status", "show", "retry", "cancel", "list")
_TAIL = 30  # lines of a log that are shown
_CONFIG_DIR = "folder of your own configuration"
_FOR_HYDRA = ("hydra.sweep.dir", "hydra.run.dir", "hydra.sweep.subdir")


def main(argv: list[str]) -> int:
    """Run ``metaloop sweep`` with these words."""
    if argv and argv[0] in VERBS:
        return _verb(argv[0], argv[1:])
    options = _parser().parse_intermixed_args(argv)
    if not options.words or "=" in options.words[0]:
        also = f"; metaloop train -m {shlex.join(options.words)} makes one without a file" if options.words else ""
        raise UserError(f"name a sweep: metaloop sweep NAME [overrides]; metaloop sweep list names them{also}")
    from metaloop.sweeps.plan import read_plan

    name, *overrides = options.words
    return run(read_plan(name, options.config_dir), overrides, options, ROOT / name)


def multirun(argv: list[str]) -> int:
    """Run ``metaloop train -m`` with these words: a sweep over the overrides themselves, or the sweep ``sweep=NAME``."""
    options = _parser().parse_intermixed_args([word for word in argv if word not in ("-m", "--multirun")])
    names = [word.removeprefix("sweep=") for word in options.words if word.startswith("sweep=")]
    overrides = [word for word in options.words if not word.startswith("sweep=")]
    from metaloop.sweeps.plan import Plan, read_plan

    if names:
        return run(read_plan(names[-1], options.config_dir), overrides, options, ROOT / names[-1])
    identifying = sorted(word for word in overrides if not word.startswith(("hydra", "launcher=", "sweep.pack=")))
    name = f"sweep_{hashlib.sha256(repr(identifying).encode()).hexdigest()[:8]}"
    run_names = [word.removeprefix("name=") for word in overrides if word.startswith("name=") and "," not in word]
    return run(Plan(name), overrides, options, Path("outputs") / (run_names[-1] if run_names else "sweeps") / name)


def run(plan: "Plan", overrides: Sequence[str], options: argparse.Namespace, directory: Path) -> int:
    """Start or continue the plan in ``directory``, unless the override ``hydra.sweep.dir`` names another."""
    from metaloop.config.overrides import quoted
    from metaloop.sweeps.compose import LAUNCHER, RAY, with_overrides
    from metaloop.sweeps.driver import sweep
    from metaloop.sweeps.launch.devices import Machine
    from metaloop.sweeps.options import Options

    shard = None if options.shard is None else Shard.parse(options.shard, os.environ)
    folders = {key: value for key, _, value in (word.partition("=") for word in overrides) if key in _FOR_HYDRA}
    for key in ("hydra.run.dir", "hydra.sweep.subdir"):
        if key in folders:
            raise UserError(f"{key}: a sweep names the directories of its runs; set the sweep's own with hydra.sweep.dir")
    directory = Path(folders.get("hydra.sweep.dir", directory))
    plan = with_overrides(
        plan, [quoted(word) for word in overrides if word.partition("=")[0] not in _FOR_HYDRA], options.config_dir
    )
    if options.gpus and plan.overrides.get(LAUNCHER) == RAY:
        raise UserError(f"--gpus {options.gpus}: these are GPUs of this machine; Ray gives each run its own, so leave it out")
    gpus = options.gpus.split(",") if options.gpus else None
    machine = Machine.detect(gpus, options.per_gpu, options.jobs, options.threads)
    if options.retries < 0 or options.stale <= 0:
        raise UserError(f"--retries {options.retries} must be at least 0, and --stale {options.stale} above 0")
    limits = (options.retries, options.stale)
    settings = Options(directory, options.config_dir, machine, *limits, options.dry_run, options.keep, shard, options.jobs)
    return sweep(replace(plan, name=directory.name), settings)


def _parser() -> argparse.ArgumentParser:
    about, _, examples = help_texts.SWEEP.partition("\n\n")
    parser = help_texts.Parser(
        prog="metaloop sweep",
        usage="metaloop sweep NAME [KEY=VALUE ...] [options]\n       metaloop sweep status|show|retry|cancel|list ...",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="NAME KEY=VALUE", help="name of the sweep, and overrides of all its runs")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their estimated time")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at once on the CPU or on Ray (default: one for each core)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a run on the CPU (default: cores / jobs)")
    parser.add_argument("--gpus", metavar="0,1,...", help="GPUs to use (default: all)")
    parser.add_argument("--per-gpu", type=int, default=1, metavar="N", help="runs at once on one GPU (default: 1)")
    parser.add_argument("--retries", type=int, default=2, metavar="N", help="retries of a run that failed (default: 2)")
    stale = "seconds without a sign of life after which a run counts as interrupted (default: 60)"
    parser.add_argument("--stale", type=float, default=60, metavar="S", help=stale)
    shard = "run only part I of N, for array jobs; auto takes I and N from the job's environment"
    parser.add_argument("--shard", metavar="I/N", help=shard)
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help=_CONFIG_DIR)
    parser.add_argument("--keep", action="store_true", help="finished runs whose folders are gone stay finished")
    return parser


def _verb(verb: str, argv: list[str]) -> int:
    parser = help_texts.Parser(prog=f"metaloop sweep {verb}", allow_abbrev=False)
    parser.add_argument("sweep", nargs="?" if verb in ("status", "list") else None, help="name or folder of the sweep")
    parser.add_argument("runs", nargs="*", help="numbers of runs, or beginnings of their directories or keys (default: all)")
    parser.add_argument("--stale", type=float, default=60, help=argparse.SUPPRESS)
    parser.add_argument("--config-dir", "-cd", action="append", default=[], metavar="DIR", help=_CONFIG_DIR)
    options = parser.parse_args(argv)
    if verb == "list":
        from metaloop.config.listing import show

        show("sweeps", options.config_dir)
        return 0
    if options.sweep is None:
        return _all_sweeps(options.stale)
    ledger = Ledger(_directory(options.sweep), options.stale)
    jobs = [job for job in ledger.jobs() if not options.runs or any(_matches(job, word) for word in options.runs)]
    if not jobs:
        runs = f"run {' or '.join(options.runs)}" if options.runs else "runs"
        raise UserError(f"{ledger.directory} has no {runs}; see metaloop sweep status {options.sweep}")
    if verb == "status":
        _status(ledger, jobs)
    elif verb == "show":
        for job in jobs:
            _show(ledger, job)
    elif verb == "retry":
        print(f"{ledger.retry([job.key for job in jobs])} runs are ready to start again: repeat the sweep's command")
    else:
        print(f"{ledger.cancel([job.key for job in jobs])} runs are cancelled; metaloop sweep retry allows them again")
    return 0


def _directory(word: str) -> Path:
    """Find the directory of the sweep with this name or folder."""
    for folder in (Path(word), ROOT / word):
        if (folder / LEDGER).exists():
            return folder
    raise UserError(f"{word} is not a sweep: neither {Path(word)} nor {ROOT / word} has a {LEDGER}; see metaloop sweep status")


def _matches(job: Job, word: str) -> bool:
    return word == str(job.number) or job.directory.startswith(word) or (len(word) > 3 and job.key.startswith(word))


def _all_sweeps(stale: float) -> int:
    ledgers = sorted(Path("outputs").rglob(LEDGER))
    if not ledgers:
        print("no sweep below outputs; metaloop sweep list names those that can be started")
    for path in ledgers:
        print(printable(f"{path.parent}  {_counts(Ledger(path.parent).jobs(), stale)}"))
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
        state = "interrupted" if job.abandoned(ledger.stale) else job.state
        running = max(0.0, time.time() - (job.started or 0)) if state == RUNNING else 0.0
        device = f"{job.host} {job.device or ''}".strip() if state == RUNNING else ""
        note = score(job) or (job.error or "").splitlines()[0][:100] if job.result or job.error else device
        tries = f"{job.attempts} tries" if job.attempts > 1 else ""
        line = (
            f"{job.number:>4}  {state:<11}  {job.directory:<{width}}  {duration(job.seconds + running):>8}  {tries:<8}  {note}"
        )
        print(printable(line.rstrip()))


def _show(ledger: Ledger, job: Job) -> None:
    from metaloop.sweeps.driver import duration, score

    directory = ledger.directory / job.directory
    rows = {
        "run": f"{job.number}  {directory}", "state": "interrupted" if job.abandoned(ledger.stale) else job.state,
        "command": shlex.join(["metaloop", "train", *job.overrides]), "key": job.key,
        "tries": f"{job.attempts}, of which {job.failed_tries} failed; {duration(job.seconds)} in all",
        "where": f"{job.host or '-'}, process {job.pid or '-'}, device {job.device or '-'}", "score": score(job) or "-",
        "steps": (job.result or {}).get("steps") or "-",
        "error": job.error or "-",
    }  # fmt: skip
    for name, value in rows.items():
        print(printable(f"{name:<10}{value}"))
    try:
        lines = (directory / LOG).read_text(errors="replace").splitlines() if (directory / LOG).is_file() else []
    except OSError:
        lines = []
    if lines:
        print(printable("\n  ".join([f"the end of {directory / LOG}:", *lines[-_TAIL:]])))
    sys.stdout.flush()
