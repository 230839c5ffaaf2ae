"""A search from its plan to its end: trials are proposed where there is room for them, run as a sweep's runs are, and told."""

import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metaloop.config.build import build_dataset
from metaloop.errors import UserError
from metaloop.sweeps.compose import compose_runs
from metaloop.sweeps.ledger import CANCELLED, DONE, FAILED, LOG, NAME, PRUNED, RUNNING, Job, Ledger, Planned, runnable
from metaloop.sweeps.local import run_locally, warm_up
from metaloop.sweeps.options import Options
from metaloop.sweeps.plan import Plan
from metaloop.sweeps.room import Needs, Room
from metaloop.sweeps.search import Search
from metaloop.sweeps.search_file import FILE, shown, validations, write_search

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


_ENDED = (DONE, PRUNED, FAILED)
_COMBINED = 64  # combinations of choices that are composed before the first trial runs
_RESULTS = {  # what the ledger keeps of a run -> the objective
    "validation": "best_validation", "tasks_per_second": "tasks_per_second", "peak_memory": "peak_memory_bytes",
    "seconds": "wall_seconds",
}  # fmt: skip


def run_search(plan: Plan, search: Search, launcher: Sequence[str], options: Options) -> int:
    """Search until there are as many trials as wanted; the exit status: 0 where all have ended and one has a score, else 1.

    Raises:
        UserError: Optuna is not installed, a value of the space cannot be run, or the folder holds another search.
    """
    _check_installed()
    if launcher:
        raise UserError(
            f"{launcher[0]}: a search is run by the machines that it is started on, as many as you like on one folder, "
            "for example: srun --ntasks=4 metaloop sweep NAME"
        )
    if not options.dry_run:
        warm_up()
    checked = checked_runs(plan, search, options.config_dirs)
    if options.dry_run:
        _dry_run(search, options, len(checked))
        return 0
    searching = Searching(plan, search, checked[0], options)
    print(f"sweep               {options.directory}")
    print(f"search              {searching.opening()}", flush=True)
    try:
        run_locally(searching.ledger, searching.supply, options.machine, options.retries, searching.tell)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        raise
    return searching.close()


def _check_installed() -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("a search needs Optuna: pip install 'metaloop[search]'") from error


def checked_runs(plan: Plan, search: Search, config_dirs: Sequence[str]) -> list[Planned]:
    """Runs that between them have every value that could be refused; all that can be composed."""
    ends = {key: one.ends() for key, one in search.space.items()}
    first = {key: values[0] for key, values in ends.items()}
    choices = {key: values for key, values in ends.items() if search.space[key].kind == "choice"}
    points = [{**first, key: value} for key, values in ends.items() for value in values]
    combined = itertools.product(*choices.values())
    points += [{**first, **dict(zip(choices, values, strict=True))} for values in itertools.islice(combined, _COMBINED)]
    for key in ends:
        if key in plan.overrides:
            raise UserError(f"{key} is both in overrides and in search.space: it cannot be held and searched")
    return compose_runs(replace(plan, points=points, search=None), config_dirs)


class Searching:
    """The search while it runs in this process.

    Args:
        plan: of the sweep.
        search: its search.
        example: one of its runs.
        options: how it is run.
    """

    def __init__(self, plan: Plan, search: Search, example: Planned, options: Options) -> None:
        from metaloop.sweeps.search_study import Study

        config = example.description["config"]
        self.plan, self.search, self.options = plan, search, options
        self.needs = Needs.of(config)
        Room(options.machine).take(self.needs)  # refused before anything starts
        self.metric = build_dataset(config).split("validation").problem.metric
        self.ledger = Ledger(options.directory.resolve(), options.stale)
        resource = (int(config["validation"]["every"]), int(config["trainer"]["max_steps"]))
        direction = "maximize" if self.metric.higher_is_better else "minimize"
        self.study: Study = Study(self.ledger.directory, search, plan.overrides, direction, resource)
        self.ledger.enter([])
        self._known: dict[str, Needs] = {}
        self._ended = sum(job.state in _ENDED for job in self.ledger.jobs())

    def supply(self, room: Room) -> Mapping[str, Needs]:
        """Hear what ended and what should, propose trials for what is free; the runs of all trials."""
        with self.study.locked():
            jobs = {job.key: job for job in self.ledger.jobs()}
            ended = self._hear(jobs)
            while self._may_ask(jobs, room):
                self._enter(self.study.ask(), jobs)
                ended |= self._hear(jobs)  # it may be a run that is done
            if ended or not (self.ledger.directory / FILE).exists():
                self.write(jobs)
        return self._known

    def _may_ask(self, jobs: Mapping[str, Job], room: Room) -> bool:
        trials = [jobs[key] for key in self._keys() if key in jobs]
        if len(self.study.trials()) >= self.search.trials or any(job.state == CANCELLED for job in trials):
            return False
        waiting = sum(runnable(job, self.options.stale, self.options.retries) for job in trials)
        return room.fits(self.needs) > waiting

    def _keys(self) -> set[str]:
        return {key for key in map(self.study.key_of, self.study.trials()) if key}

    def _hear(self, jobs: dict[str, Job]) -> bool:
        """Tell Optuna how runs fare; whether a trial ended."""
        ended = False
        for trial in self.study.trials():
            job = jobs.get(self.study.key_of(trial) or "")
            if job is None and not trial.state.is_finished() and self.study.whole(trial):
                job = self._enter(trial, jobs)  # whoever proposed it was killed before the ledger knew
            if job is not None:
                self._known.setdefault(job.key, self.needs)
                ended |= self._hear_of(trial, job)
        return ended

    def _hear_of(self, trial: "FrozenTrial", job: Job) -> bool:
        """Whether the trial ended by that."""
        if trial.state.is_finished():
            return trial.state.name == "FAIL" and job.state == DONE and self.study.mend(trial, self._values(job))
        failed = job.state == FAILED and not runnable(job, self.options.stale, self.options.retries)
        if not failed and job.state not in (DONE, PRUNED, RUNNING):
            return False
        behind = self.study.report(trial, validations(self.ledger.directory / job.directory))
        if job.state == RUNNING:
            return behind and self.ledger.prune(job.key)
        if job.state == DONE:
            self.study.end(trial, self._values(job))
        elif job.state == PRUNED:
            self.study.prune(trial)
        else:
            self.study.fail(trial)
        return True

    def _values(self, job: Job) -> list[float | None]:
        return [(job.result or {}).get(_RESULTS[name]) for name in self.study.directions]

    def _enter(self, trial: "FrozenTrial", jobs: dict[str, Job]) -> Job:
        """Make a run of a trial; one that the ledger has already is that of another trial with the same config."""
        plan = replace(self.plan, overrides={**self.plan.overrides, **self.study.typed(trial)}, search=None)
        (planned,) = compose_runs(plan, self.options.config_dirs, named=list(self.search.space))
        self.study.assign(trial, planned.key)
        self.ledger.enter([planned])
        self._known[planned.key] = Needs.of(planned.description["config"])
        jobs.setdefault(planned.key, self.ledger.job(planned.key))
        return jobs[planned.key]

    def write(self, jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Write search.json; returns what it says."""
        return write_search(self.ledger.directory / FILE, self.study, self.search, jobs, self.metric)

    def opening(self) -> str:
        """How many trials there are, and how many there will be."""
        with self.study.locked():
            known = len(self.study.trials())
        what = ", ".join(f"{name} ({direction}d)" for name, direction in self.study.directions.items())
        return f"{self.search.trials} trials, {known} known already, over {', '.join(self.search.space)}; by {what}"

    def tell(self, job: Job) -> None:
        """One line on a run that ended."""
        self._ended += job.state in _ENDED
        values = {name: (job.result or {}).get(_RESULTS[name]) for name in self.study.directions}
        said = ", ".join(shown(name, value, self.metric) for name, value in values.items()) if job.state == DONE else ""
        said = said or (job.error or "").partition("\n")[0][:100]
        print(f"{self._ended:>4}/{self.search.trials} {job.state:<12} {job.directory}  {said}", flush=True)

    def close(self) -> int:
        """Say what was found."""
        with self.study.locked():
            jobs = {job.key: job for job in self.ledger.jobs()}
            self._hear(jobs)
            told = self.write(jobs)
        directory, own = self.options.directory, "".join(f"--config-dir {each} " for each in self.options.config_dirs)
        count = Counter(trial["state"] for trial in told["trials"])
        print(f"{'ended':<20}" + ", ".join(f"{number} {state}" for state, number in count.items()))
        best = [trial for trial in told["trials"] if trial["number"] in told["best"]]
        for trial in best:
            values = ", ".join(shown(name, value, self.metric) for name, value in trial["values"].items())
            print(f"{'best' if len(best) == 1 else 'not beaten':<20}trial {trial['number']}: {values}")
            print(f"{'':<20}metaloop train {own}{' '.join(trial['overrides'])}")
            print(f"{'':<20}{directory / trial['directory']}")
        for trial in told["trials"]:
            if trial["state"] == FAILED:
                print(f"{'failed':<20}{directory / trial['directory'] / LOG}")
        print(f"{'all trials':<20}{directory / FILE}")
        print(f"{'compare them':<20}metaloop report {directory}")
        over = sum(count[state] for state in _ENDED)
        return 0 if best and over >= self.search.trials else 1


def _dry_run(search: Search, options: Options, checked: int) -> None:
    for key, one in search.space.items():
        scale = (", log" if one.log else "") + (f", step {one.step:g}" if one.step else "")
        print(f"{key}  {', '.join(one.choices) if one.choices else f'{one.low:g} to {one.high:g}{scale}'}")
    objectives = ", ".join(f"{name} ({direction or 'as its metric'})" for name, direction in search.objectives.items())
    print(
        f"{search.trials} trials by {objectives}; sampler {search.sampler}, seed {search.seed}, prune {search.prune or 'never'}"
    )
    known = len(Ledger(options.directory).jobs()) if (options.directory / NAME).exists() else 0
    print(f"{checked} combinations of the ends of the space compose; {known} runs are in the ledger")
