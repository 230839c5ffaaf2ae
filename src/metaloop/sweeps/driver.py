"""Execution of a sweep: compose its runs, enter them into the ledger, run them, and print the progress."""

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from metaloop.config.trust import remember
from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.jobs import DONE, FAILED, FINAL, INTERRUPTED, LOG, RUNNING, STATES, WAITING, Job
from metaloop.records.schema import RECORD
from metaloop.report import formats
from metaloop.runs.dry_run import rough, tried
from metaloop.sweeps.compose import LAUNCHER, LOCAL, RAY, compose_runs, split_launcher, split_pack
from metaloop.sweeps.launch.devices import Needs
from metaloop.sweeps.launch.local import run_locally, warm_up
from metaloop.sweeps.launch.packs import kinds_of
from metaloop.sweeps.launch.ray_tasks import run_on_ray
from metaloop.sweeps.ledger import Ledger, Planned, runnable
from metaloop.sweeps.options import Options
from metaloop.sweeps.plan import Plan
from metaloop.sweeps.pricing import Price, priced
from metaloop.sweeps.shard import Shard
from metaloop.system.terminal import printable

_POLL = 2.0  # seconds between two reads of the ledger, for the runs of other processes


def sweep(plan: Plan, options: Options) -> int:
    """Run all runs of a plan that are not done yet, or continue its search.

    Returns:
        The exit status: 0 if all runs are done in the end, else 1.

    Raises:
        UserError: a run cannot be composed, or needs more devices than there are. No run was started.
    """
    if "LOCAL_RANK" in os.environ:
        raise UserError("a sweep starts the processes of its runs by itself; start it without torchrun (LOCAL_RANK is set)")
    plan, launcher = split_launcher(plan)
    plan, pack = split_pack(plan)
    on_ray = launcher == [f"{LAUNCHER}={RAY}"]
    if f"hydra/launcher={RAY}" in launcher and find_spec("hydra_plugins.hydra_ray_launcher") is None:
        raise UserError("hydra/launcher=ray needs hydra-ray-launcher, which is not installed; launcher=ray needs Ray alone")
    local = not launcher or launcher[0] in (f"{LAUNCHER}={LOCAL}", "hydra/launcher=local", "hydra/launcher=basic")
    if pack == "true" and (plan.search is not None or not local):
        raise UserError("sweep.pack=true: runs are computed together on this machine, and not in a search; leave it out")
    if plan.search is not None and options.shard:
        raise UserError(
            f"--shard {options.shard}: a search has no fixed runs to divide; start its command without --shard in every job, "
            "with one shared folder"
        )
    if plan.search is not None:
        from metaloop.sweeps.search.driver import run_search

        return run_search(plan, plan.search, () if local else launcher, options)
    if local and not options.dry_run:
        warm_up()
    composed = compose_runs(plan, options.config_dirs)
    planned = _of_shard(composed, options.shard)
    ledger = Ledger(options.directory.resolve(), options.stale)
    if options.dry_run:
        _dry_run(planned, ledger, options, on_ray)
        return 0
    for one in planned:
        remember(one.description["config"])
    ledger.enter(composed)  # those of other shards too, so that runs have the same numbers and order in every ledger
    keys = [one.key for one in planned]
    print(f"sweep               {options.directory}")
    if options.shard:
        print(f"shard               {options.shard}: {len(planned)} of {len(composed)} runs")
    _run_again_what_is_gone(ledger, keys, options)
    jobs = _jobs(ledger, keys)
    print(f"runs                {_opening(jobs, options)}", flush=True)
    progress = _Progress(ledger, keys)
    try:
        needs = {one.key: Needs.of(one.description["config"]) for one in planned}
        if local:
            kinds = kinds_of({one.key: one.description["config"] for one in planned})
            run_locally(ledger, lambda _: needs, options.machine, options.retries, progress, pack, kinds)
        elif on_ray:
            run_on_ray(ledger, lambda _: needs, options.machine, options.at_once, options.retries, progress)
        else:
            _run_by_launcher(ledger, {one.key: one.overrides for one in planned}, launcher, options, progress)
    except KeyboardInterrupt:
        print("\nstopped; run the same command to resume", file=sys.stderr)
        raise
    return _close(_jobs(ledger, keys), options.directory)


def _of_shard(composed: Sequence[Planned], shard: Shard | None) -> list[Planned]:
    if shard is None:
        return list(composed)
    keys = set(shard.of([one.key for one in composed]))
    return [one for one in composed if one.key in keys]


def _jobs(ledger: Ledger, keys: Sequence[str]) -> list[Job]:
    selected = set(keys)
    return [job for job in ledger.jobs() if job.key in selected]


def _run_again_what_is_gone(ledger: Ledger, keys: Sequence[str], options: Options) -> None:
    """Say which finished runs have lost their records, and let them run again unless the user keeps them so."""
    done = [job for job in _jobs(ledger, keys) if job.state == DONE]
    gone = [job for job in done if not (options.directory / job.directory / RECORD).exists()]
    if not gone:
        return
    names = ", ".join(printable(job.directory) for job in gone[:3]) + (", ..." if len(gone) > 3 else "")
    print(f"gone                the records of {len(gone)} finished runs: {names}")
    if options.keep:
        print("                    they stay as they are (--keep)")
    else:
        ledger.run_again([job.key for job in gone])
        print("                    they run again; --keep leaves them as they are")


def _run_by_launcher(
    ledger: Ledger, overrides: Mapping[str, Sequence[str]], launcher: Sequence[str], options: Options, progress: "_Progress"
) -> None:
    from metaloop.sweeps.launch.hydra_launcher import launch

    keys = list(overrides)
    before = {(job.key, job.attempts) for job in _jobs(ledger, keys)}
    for _ in range(options.retries + 1):
        todo = [job for job in _jobs(ledger, keys) if runnable(job, options.stale, options.retries)]
        if todo:
            launch(ledger, todo, overrides, launcher, options.config_dirs, options.retries)
        for job in _jobs(ledger, keys):
            job.check_space()
        while any(_is_elsewhere(job, ledger, options) for job in _jobs(ledger, keys)):
            time.sleep(_POLL)
    for job in _jobs(ledger, keys):
        if (job.key, job.attempts) not in before:
            progress(job)


def _is_elsewhere(job: Job, ledger: Ledger, options: Options) -> bool:
    """Whether another process works on a run, which may end without a result."""
    if job.state == RUNNING and not job.abandoned(options.stale):
        return True
    return runnable(job, options.stale, options.retries) and ledger.held(job)


def _opening(jobs: Sequence[Job], options: Options) -> str:
    """The number of runs, by what happens to them now."""
    count: Counter[str] = Counter()
    for job in jobs:
        if job.abandoned(options.stale) or job.state == INTERRUPTED:
            count["interrupted, resumed"] += 1
        elif job.state == FAILED:
            given_up = "failed for good" if job.failures >= FINAL else "failed too often"
            count["failed, tried again" if runnable(job, options.stale, options.retries) else given_up] += 1
        else:
            names = {DONE: "done already", WAITING: "to run", RUNNING: "run by another process"}
            count[names.get(job.state, job.state)] += 1
    return f"{len(jobs)}: " + ", ".join(f"{number} {state}" for state, number in count.items())


class _Progress:
    """Prints how each run ended, and an estimate of the remaining time."""

    def __init__(self, ledger: Ledger, keys: Sequence[str]) -> None:
        self.ledger, self.keys = ledger, keys
        self.start = time.monotonic()
        self.done = self.done_before = sum(job.state == DONE for job in _jobs(ledger, keys))

    def __call__(self, job: Job) -> None:
        """Print one line."""
        jobs = _jobs(self.ledger, self.keys)
        self.done += job.state == DONE  # counted here, since several runs may have ended since the last poll
        left = sum(each.state in (WAITING, RUNNING, INTERRUPTED) for each in jobs)
        estimate = ""
        if left and self.done > self.done_before:
            per_run = (time.monotonic() - self.start) / (self.done - self.done_before)
            estimate = f"  about {duration(per_run * left)} left"
        result = score(job) if job.state == DONE else (job.error or "").partition("\n")[0][:100]
        line = f"{self.done:>4}/{len(jobs)} {job.state:<12} {job.directory}  {result}  {duration(job.seconds)}{estimate}"
        print(printable(line), flush=True)


def score(job: Job) -> str:
    """The meta-test score of a run, with its interval over episodes; empty without a result."""
    if not job.result:
        return ""
    metric = Metric.from_dict(job.result["metric"])
    return metric.with_unit(metric.interval(job.result["mean"], job.result["half_width"]))


def duration(seconds: float) -> str:
    """A duration as text, such as 42 s, 3 min 10 s or 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _dry_run(planned: Sequence[Planned], ledger: Ledger, options: Options, on_ray: bool) -> None:
    known = {job.key: job for job in ledger.jobs()} if ledger.path.exists() else {}
    for one in planned:
        state = known[one.key].state if one.key in known else WAITING
        print(f"{state:<12} {one.directory}  {' '.join(one.overrides)}")
    todo = [one for one in planned if one.key not in known or known[one.key].state != DONE]
    seconds = [job.seconds for job in known.values() if job.state == DONE]
    needs = {Needs.of(one.description["config"]) for one in todo}
    at_once = (
        options.machine.cores if all(not each.gpus for each in needs) else len(options.machine.gpus) * options.machine.per_gpu
    )
    if on_ray:
        at_once = options.at_once or 0
    if not todo:
        estimate = "nothing left to do"
    elif on_ray and not at_once:
        estimate = "the time depends on the cluster"
    elif seconds and at_once:
        mean = sum(seconds) / len(seconds)
        total = duration(mean * len(todo) / min(at_once, len(todo)))
        estimate = f"about {total} ({duration(mean)} a run so far, {at_once} at once)"
    elif at_once:
        estimate = _estimate(priced(todo, partial(tried, in_this_process=False)), min(at_once, len(todo)))
    else:
        estimate = "time unknown: there is no device for them here"
    print(f"{len(planned)} runs, {len(todo)} to run: {estimate}")


def _estimate(price: Price, at_once: int) -> str:
    sides = f", {at_once} at once if that slows none" if at_once > 1 else ""
    kinds = f"one of each of {price.kinds} kinds" if price.tried == price.kinds else f"{price.tried} of {price.kinds} kinds"
    return (
        f"about {rough(price.seconds / at_once)} ({rough(price.seconds)} of runs{sides}), up to {formats.memory(price.memory)} "
        f"a run; tried {kinds} of runs, each for a few outer steps on this machine as it is now"
    )


def _close(jobs: Sequence[Job], directory: Path) -> int:
    count = Counter(job.state for job in jobs)
    print(f"{'ended':<20}" + ", ".join(f"{count[state]} {state}" for state in STATES if count[state]))
    for job in jobs:
        if job.state == FAILED:
            print(f"{'failed':<20}{directory / job.directory / LOG}")
    if count[DONE]:
        print(f"{'compare them':<20}metaloop report {directory}")
    if count[FAILED]:
        print(f"{'after a repair':<20}metaloop sweep retry {directory}, and the same command again")
    return 0 if count[DONE] == len(jobs) else 1


def summary(jobs: Sequence[Job], stale: float) -> Mapping[str, int]:
    """The number of runs in each state. Runs whose process is gone count as interrupted."""
    return Counter(INTERRUPTED if job.abandoned(stale) else job.state for job in jobs)
