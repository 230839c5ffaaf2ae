"""Execution of a search: propose trials while devices are free, run them as runs of the sweep, and print the progress."""

import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metaloop.config.build import build_dataset
from metaloop.config.trust import check_received, remember
from metaloop.errors import UserError
from metaloop.records.jobs import CANCELLED, DONE, FAILED, LEDGER, LOG, PRUNED, RUNNING, Job
from metaloop.sweeps.compose import compose_runs
from metaloop.sweeps.launch.devices import FreeDevices, Needs
from metaloop.sweeps.launch.local import run_locally, warm_up
from metaloop.sweeps.launch.schedule import Room
from metaloop.sweeps.ledger import Ledger, Planned, runnable
from metaloop.sweeps.options import Options
from metaloop.sweeps.plan import Plan
from metaloop.sweeps.search.search import Direction, Search
from metaloop.sweeps.search.search_file import FILE, validations, value_text, write_search
from metaloop.system.terminal import printable

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


_ENDED = (DONE, PRUNED, FAILED)
_MAX_COMBINATIONS = 64  # combinations of choices that are composed before the first trial runs
_RESULTS = {  # the key of each objective in a run's result
    "validation": "best_validation", "tasks_per_second": "tasks_per_second", "peak_memory": "peak_memory_bytes",
    "seconds": "wall_seconds",
}  # fmt: skip


def run_search(plan: Plan, search: Search, launcher: Sequence[str], options: Options) -> int:
    """Search until the requested number of trials is reached.

    Returns:
        The exit status: 0 if all trials have ended and one has a score, else 1.

    Raises:
        UserError: Optuna is not installed, a value of the space is invalid, or the folder holds another search.
    """
    _check_installed()
    if launcher:
        raise UserError(
            f"{launcher[0]}: a search cannot use a launcher. Start the same command on several machines with one shared "
            "folder instead, for example: srun --ntasks=4 metaloop sweep NAME"
        )
    if not options.dry_run:
        warm_up()
    checked = checked_runs(plan, search, options.config_dirs)
    if options.dry_run:
        _dry_run(search, options, len(checked))
        return 0
    driver = SearchDriver(plan, search, checked[0], options)
    print(f"sweep               {options.directory}")
    print(f"search              {driver.opening()}", flush=True)
    try:
        run_locally(driver.ledger, driver.supply, options.machine, options.retries, driver.print_end)
    except KeyboardInterrupt:
        print("\nstopped; run the same command to resume", file=sys.stderr)
        raise
    return driver.close()


def _check_installed() -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("a search needs Optuna: pip install 'metaloop[search]'") from error


def checked_runs(plan: Plan, search: Search, config_dirs: Sequence[str]) -> list[Planned]:
    """Compose runs that together cover every choice and the ends of every range, so that invalid values show early.

    Raises:
        UserError: a run cannot be composed, or a key is both fixed and searched.
    """
    extremes = {key: one.extremes() for key, one in search.space.items()}
    first = {key: values[0] for key, values in extremes.items()}
    choices = {key: values for key, values in extremes.items() if search.space[key].kind == "choice"}
    points = [{**first, key: value} for key, values in extremes.items() for value in values]
    combinations = itertools.islice(itertools.product(*choices.values()), _MAX_COMBINATIONS)
    points += [{**first, **dict(zip(choices, values, strict=True))} for values in combinations]
    for key in extremes:
        if key in plan.overrides:
            raise UserError(f"{key} is both in overrides and in search.space: remove it from one of them")
    return compose_runs(replace(plan, points=points, search=None), config_dirs)


class SearchDriver:
    """A search in this process. Other processes may run the same search.

    Args:
        plan: plan of the sweep.
        search: the search of the plan.
        example: one run of the search.
        options: options of the sweep.
    """

    def __init__(self, plan: Plan, search: Search, example: Planned, options: Options) -> None:
        from metaloop.sweeps.search.study import Study

        config = example.description["config"]
        self.plan, self.search, self.options = plan, search, options
        self.needs = Needs.of(config)
        FreeDevices(options.machine).acquire(self.needs)  # raises before anything starts
        self.metric = build_dataset(config).split("validation").problem.metric
        self.ledger = Ledger(options.directory.resolve(), options.stale)
        resource = (int(config["validation"]["every"]), int(config["trainer"]["max_steps"]))
        direction: Direction = "maximize" if self.metric.higher_is_better else "minimize"
        self.study: Study = Study(self.ledger.directory, search, plan.overrides, direction, resource)
        self.ledger.enter([])
        self._known: dict[str, Needs] = {}
        self._ended = sum(job.state in _ENDED for job in self.ledger.jobs())

    def supply(self, free: Room) -> Mapping[str, Needs]:
        """Report ended runs to the study, stop poor ones, and propose trials for the free devices.

        Returns:
            The needs of the runs of all trials, by key.
        """
        with self.study.locked():
            jobs = {job.key: job for job in self.ledger.jobs()}
            ended = self._report_all(jobs)
            while self._may_ask(jobs, free):
                self._enter(self.study.ask(), jobs)
                ended |= self._report_all(jobs)  # the new trial may have the config of a run that is done
            if ended or not (self.ledger.directory / FILE).exists():
                self.write(jobs)
        return self._known

    def _may_ask(self, jobs: Mapping[str, Job], free: Room) -> bool:
        trials = [jobs[key] for key in self._keys() if key in jobs]
        if len(self.study.trials()) >= self.search.trials or any(job.state == CANCELLED for job in trials):
            return False
        waiting = sum(runnable(job, self.options.stale, self.options.retries) for job in trials)
        return free.capacity(self.needs) > waiting

    def _keys(self) -> set[str]:
        return {key for key in map(self.study.key_of, self.study.trials()) if key}

    def _report_all(self, jobs: dict[str, Job]) -> bool:
        """Report the states of all runs to the study. Return whether a trial ended."""
        ended = False
        for trial in self.study.trials():
            job = jobs.get(self.study.key_of(trial) or "")
            if job is None and not trial.state.is_finished() and self.study.is_complete(trial):
                job = self._enter(trial, jobs)  # its process was killed before it entered the run
            if job is not None:
                self._check_trust(job)
                self._known.setdefault(job.key, self.needs)
                ended |= self._report(trial, job)
        return ended

    def _check_trust(self, job: Job) -> None:
        """Check a run that this process did not compose: the folder may come from elsewhere."""
        if job.key not in self._known and job.state not in (DONE, PRUNED):
            check_received(self.ledger.identity(job.key).config, self.ledger.path)

    def _report(self, trial: "FrozenTrial", job: Job) -> bool:
        """Report the state of one run to the study. Return whether its trial ended."""
        if trial.state.is_finished():
            return trial.state.name == "FAIL" and job.state == DONE and self.study.replace_failed(trial, self._values(job))
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
        """Enter the run of a trial into the ledger. Trials with equal configs share a run."""
        plan = replace(self.plan, overrides={**self.plan.overrides, **self.study.overrides_of(trial)}, search=None)
        (planned,) = compose_runs(plan, self.options.config_dirs, name_keys=list(self.search.space))
        remember(planned.description["config"])
        self.study.assign(trial, planned.key)
        self.ledger.enter([planned])
        self._known[planned.key] = Needs.of(planned.description["config"])
        jobs.setdefault(planned.key, self.ledger.job(planned.key))
        return jobs[planned.key]

    def write(self, jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Write search.json and return its content."""
        return write_search(self.ledger.directory / FILE, self.study, self.search, jobs, self.metric)

    def opening(self) -> str:
        """The number of trials, the searched keys and the objectives, for the first line of output."""
        with self.study.locked():
            known = len(self.study.trials())
        objectives = ", ".join(f"{name} ({direction}d)" for name, direction in self.study.directions.items())
        warm = f"; the first from {', '.join(self.search.warm_start)}" if self.search.warm_start else ""
        return f"{self.search.trials} trials, {known} known already, over {', '.join(self.search.space)}; by {objectives}{warm}"

    def print_end(self, job: Job) -> None:
        """Print one line about a run that ended."""
        self._ended += job.state in _ENDED
        values = {name: (job.result or {}).get(_RESULTS[name]) for name in self.study.directions}
        result = ", ".join(value_text(name, value, self.metric) for name, value in values.items()) if job.state == DONE else ""
        result = result or (job.error or "").partition("\n")[0][:100]
        print(printable(f"{self._ended:>4}/{self.search.trials} {job.state:<12} {job.directory}  {result}"), flush=True)

    def close(self) -> int:
        """Print the result of the search, and return the exit status."""
        with self.study.locked():
            jobs = {job.key: job for job in self.ledger.jobs()}
            self._report_all(jobs)
            content = self.write(jobs)
        directory, dirs = self.options.directory, "".join(f"--config-dir {each} " for each in self.options.config_dirs)
        count = Counter(trial["state"] for trial in content["trials"])
        print(f"{'ended':<20}" + ", ".join(f"{number} {state}" for state, number in count.items()))
        best = [trial for trial in content["trials"] if trial["number"] in content["best"]]
        for trial in best:
            values = ", ".join(value_text(name, value, self.metric) for name, value in trial["values"].items())
            print(f"{'best' if len(best) == 1 else 'not beaten':<20}trial {trial['number']}: {values}")
            print(f"{'':<20}metaloop train {dirs}{' '.join(trial['overrides'])}")
            print(f"{'':<20}{directory / trial['directory']}")
        for trial in content["trials"]:
            if trial["state"] == FAILED:
                print(f"{'failed':<20}{directory / trial['directory'] / LOG}")
        print(f"{'all trials':<20}{directory / FILE}")
        print(f"{'compare them':<20}metaloop report {directory}")
        ended = sum(count[state] for state in _ENDED)
        return 0 if best and ended >= self.search.trials else 1


def _dry_run(search: Search, options: Options, checked: int) -> None:
    for key, one in search.space.items():
        scale = (", log" if one.log else "") + (f", step {one.step:g}" if one.step else "")
        print(f"{key}  {', '.join(one.choices) if one.choices else f'{one.low:g} to {one.high:g}{scale}'}")
    objectives = ", ".join(f"{name} ({direction or 'as its metric'})" for name, direction in search.objectives.items())
    print(
        f"{search.trials} trials by {objectives}; sampler {search.sampler}, seed {search.seed}, prune {search.prune or 'never'}"
    )
    known = len(Ledger(options.directory).jobs()) if (options.directory / LEDGER).exists() else 0
    print(f"{checked} combinations of the ends of the space compose; {known} runs are in the ledger")
