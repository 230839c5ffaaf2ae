"""A sweep from its plan to its end: composed, entered in the ledger, run, told."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaloop.problems.metric import Metric
from metaloop.sweeps.compose import compose_runs, launcher_overrides
from metaloop.sweeps.ledger import (
    DONE,
    FAILED,
    INTERRUPTED,
    LOG,
    RUNNING,
    STATES,
    WAITING,
    Job,
    Ledger,
    Planned,
    runnable,
)
from metaloop.sweeps.local import run_locally, warm_up
from metaloop.sweeps.options import Options
from metaloop.sweeps.plan import Plan
from metaloop.sweeps.room import Needs

_LOOK = 2.0  # seconds between two looks at runs of other processes


def sweep(plan: Plan, options: Options) -> int:
    """Run what of the plan is not done; the exit status: 0 where all of it is done in the end, else 1. A search goes on.

    Raises:
        UserError: a run cannot be composed, or needs what is not there; nothing was started.
    """
    plan, launcher = launcher_overrides(plan)
    local = not launcher or launcher[0] in ("hydra/launcher=local", "hydra/launcher=basic")
    if plan.search is not None:
        from metaloop.sweeps.search_driver import run_search

        return run_search(plan, plan.search, () if local else launcher, options)
    if local and not options.dry_run:
        warm_up()
    planned = compose_runs(plan, options.config_dirs)
    ledger = Ledger(options.directory.resolve(), options.stale)
    if options.dry_run:
        _dry_run(planned, ledger, options)
        return 0
    ledger.enter(planned)
    keys = [one.key for one in planned]
    jobs = _of(ledger, keys)
    print(f"sweep               {options.directory}")
    print(f"runs                {_opening(jobs, options)}", flush=True)
    told = _Teller(ledger, keys)
    try:
        if local:
            needs = {one.key: Needs.of(one.description["config"]) for one in planned}
            run_locally(ledger, lambda _: needs, options.machine, options.retries, told)
        else:
            _by_launcher(ledger, keys, launcher, options, told)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        raise
    return _close(_of(ledger, keys), options.directory)


def _of(ledger: Ledger, keys: Sequence[str]) -> list[Job]:
    wanted = set(keys)
    return [job for job in ledger.jobs() if job.key in wanted]


def _by_launcher(ledger: Ledger, keys: Sequence[str], launcher: Sequence[str], options: Options, told: "_Teller") -> None:
    from metaloop.sweeps.hydra_launcher import launch

    before = {(job.key, job.attempts) for job in _of(ledger, keys)}
    for _ in range(options.retries + 1):
        todo = [job for job in _of(ledger, keys) if runnable(job, options.stale, options.retries)]
        if todo:
            launch(ledger, todo, launcher, options.config_dirs, options.retries)
        while any(job.state == RUNNING and not job.abandoned(options.stale) for job in _of(ledger, keys)):
            time.sleep(_LOOK)
    for job in _of(ledger, keys):
        if (job.key, job.attempts) not in before:
            told(job)


def _opening(jobs: Sequence[Job], options: Options) -> str:
    """How many there are, and what is done about each."""
    count: Counter[str] = Counter()
    for job in jobs:
        if job.abandoned(options.stale) or job.state == INTERRUPTED:
            count["cut off, resumed"] += 1
        elif job.state == FAILED:
            count["failed, tried again" if runnable(job, options.stale, options.retries) else "failed too often"] += 1
        else:
            names = {DONE: "done already", WAITING: "to run", RUNNING: "run by another process"}
            count[names.get(job.state, job.state)] += 1
    return f"{len(jobs)}: " + ", ".join(f"{number} {what}" for what, number in count.items())


class _Teller:
    """Says how each run ended, and how long the rest may take."""

    def __init__(self, ledger: Ledger, keys: Sequence[str]) -> None:
        self.ledger, self.keys = ledger, keys
        self.began = time.monotonic()
        self.done = self.before = sum(job.state == DONE for job in _of(ledger, keys))

    def __call__(self, job: Job) -> None:
        """One line."""
        jobs = _of(self.ledger, self.keys)
        self.done += job.state == DONE  # two may have ended since the last look: each has a line and a number of its own
        done = self.done
        left = sum(each.state in (WAITING, RUNNING, INTERRUPTED) for each in jobs)
        rest = (
            f"  about {duration((time.monotonic() - self.began) / (done - self.before) * left)} left"
            if done > self.before
            else ""
        )
        what = score(job) if job.state == DONE else (job.error or "").splitlines()[0][:100] if job.error else ""
        print(
            f"{done:>4}/{len(jobs)} {job.state:<12} {job.directory}  {what}  {duration(job.seconds)}{rest if left else ''}",
            flush=True,
        )


def score(job: Job) -> str:
    """Its meta-test score with the interval over episodes."""
    if not job.result:
        return ""
    metric = Metric.from_dict(job.result["metric"])
    return metric.with_unit(metric.interval(job.result["mean"], job.result["half_width"]))


def duration(seconds: float) -> str:
    """Such as 42 s, 3 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _dry_run(planned: Sequence[Planned], ledger: Ledger, options: Options) -> None:
    known = {job.key: job for job in ledger.jobs()} if ledger.path.exists() else {}
    for one in planned:
        state = known[one.key].state if one.key in known else WAITING
        print(f"{state:<12} {one.directory}  {' '.join(one.overrides)}")
    todo = [one for one in planned if one.key not in known or known[one.key].state != DONE]
    took = [job.seconds for job in known.values() if job.state == DONE]
    needs = {Needs.of(one.description["config"]) for one in todo}
    at_once = (
        options.machine.cores if all(not each.gpus for each in needs) else len(options.machine.gpus) * options.machine.per_gpu
    )
    if not todo:
        said = "nothing is left to do"
    elif took and at_once:
        mean = sum(took) / len(took)
        said = (
            f"about {duration(mean * len(todo) / min(at_once, len(todo)))} ({duration(mean)} a run so far, {at_once} at once)"
        )
    else:
        said = "time unknown until a run of the sweep has finished"
    print(f"{len(planned)} runs, {len(todo)} to run: {said}")


def _close(jobs: Sequence[Job], directory: Path) -> int:
    count = Counter(job.state for job in jobs)
    print(f"{'ended':<20}" + ", ".join(f"{count[state]} {state}" for state in STATES if count[state]))
    for job in jobs:
        if job.state == FAILED:
            print(f"{'failed':<20}{directory / job.directory / LOG}")
    if count[DONE]:
        print(f"{'compare them':<20}metaloop report {directory}")
    if count[FAILED]:
        print(f"{'once mended':<20}metaloop sweep retry {directory}, and the same command again")
    return 0 if count[DONE] == len(jobs) else 1


def summary(jobs: Sequence[Job], stale: float) -> Mapping[str, int]:
    """How many are in each state; those whose process is gone count as interrupted."""
    return Counter(INTERRUPTED if job.abandoned(stale) else job.state for job in jobs)
