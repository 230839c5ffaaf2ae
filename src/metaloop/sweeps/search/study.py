"""The trials of a search, which Optuna keeps in a journal in the sweep's folder. Only this module imports Optuna.

Optuna proposes trials and remembers them; the ledger has the runs and how they ended. Every method that reads or writes must be
called inside :meth:`Study.locked`, so that several processes can share one search.
"""

import fcntl
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from metaloop.errors import UserError
from metaloop.sweeps.search.finished_sweeps import Params, read_finished
from metaloop.sweeps.search.search import Direction, Parameter, Search
from metaloop.system.files import open_lock

if TYPE_CHECKING:
    from metaloop.sweeps.search.warm_start import WarmStart

_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError)  # of Optuna, by byte
JOURNAL, LOCK = "search.journal", "search.lock"
IMPORTANCE = "PED-ANOVA"  # Watanabe et al. 2023; needs no package besides Optuna
_NAME = "search"
_UNINFORMED, _INFORMED = 10, 5  # finished trials before TPE takes them into account
_MIN_TRIALS = 10  # finished trials that importances need
_MIN_GOOD = 5  # smallest number of good trials that PED-ANOVA compares with the others
# Attributes of a trial: its run in the ledger, the failed trial that it replaces, and what proposed it.
_KEY, _AGAIN, _ORIGIN = "key", "again", "origin"


class Study:
    """The trials of the search in ``directory``.

    Args:
        directory: folder of the sweep.
        search: the search.
        overrides: overrides of all runs. They and the space identify the search.
        direction: "maximize" or "minimize", for the meta-validation score.
        resource: outer steps of the first validation and of a whole run, the limits of hyperband.

    Raises:
        UserError: the folder holds another search, or its journal is damaged or a link.
    """

    def __init__(
        self, directory: Path, search: Search, overrides: Mapping[str, str], direction: Direction, resource: tuple[int, int]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.search = directory, search
        self.directions: dict[str, Direction] = {name: each or direction for name, each in search.objectives.items()}
        self.space = {key: _distribution(one) for key, one in search.space.items()}
        if (directory / JOURNAL).is_symlink():
            raise UserError(f"{directory / JOURNAL} is a link, so it is not used; put the journal itself in its place")
        with self.locked():
            self._storage, self._study = self._open(_pruner(search, resource))
            self._check_identity(search.identity() | {"overrides": dict(overrides)})
        self.warm = self._warm_start()
        self._id = self._storage.get_study_id_from_name(_NAME)

    def _open(self, pruner: optuna.pruners.BasePruner) -> tuple[JournalStorage, optuna.Study]:
        path = self.directory / JOURNAL
        try:
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_NoLock(str(self.directory / LOCK))))
            return storage, optuna.create_study(
                storage=storage, study_name=_NAME, load_if_exists=True, pruner=pruner,
                directions=list(self.directions.values()), sampler=_sampler(self.search, 0),
            )  # fmt: skip
        except _DAMAGED as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            raise UserError(
                f"the journal {path} is damaged ({reason}). Set another hydra.sweep.dir, or move the file away: the search "
                "then begins again, and runs that are done are not run again"
            ) from error

    def _check_identity(self, identity: dict[str, Any]) -> None:
        known = self._study.user_attrs.get("search")
        if known is None:
            self._study.set_user_attr("search", identity)
        elif known != identity:
            parts = [name for name in identity if known.get(name) != identity[name]]
            raise UserError(
                f"{self.directory} holds a search with other {' and '.join(parts)}, so trials cannot be compared. Set another "
                f"hydra.sweep.dir, or restore the earlier {' and '.join(parts)}; trials, sampler, seed and prune may change"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the search. The system releases it if the process dies."""
        with open_lock(self.directory / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _drop_partial_line(self.directory / JOURNAL)
            yield

    def trials(self) -> list[FrozenTrial]:
        """All trials in order, without incomplete proposals and without failed trials that were replaced."""
        trials = self._study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get(_AGAIN) for trial in trials}
        return [
            trial for trial in trials
            if trial.number not in replaced and (trial.state != TrialState.FAIL or _KEY in trial.user_attrs)
        ]  # fmt: skip

    def ask(self) -> FrozenTrial:
        """Propose a new trial. It depends on the ended trials, the seed and its own number, but not on the process."""
        number = len(self._study.get_trials(deepcopy=False))
        known = self._known_best(number)
        if known is not None:
            params, origin = known
            self._study.add_trial(
                create_trial(
                    state=TrialState.RUNNING, params=dict(params), distributions=self.space, user_attrs={_ORIGIN: origin}
                )
            )
        else:
            self._study.sampler = _sampler(self.search, number, informed=self.warm is not None)
            number = self._study.ask(self.space).number
        return self._study.get_trials(deepcopy=False)[number]

    def _warm_start(self) -> "WarmStart | None":
        """Proposals from the finished sweeps that the search names; None if it names none."""
        if not self.search.warm_start:
            return None
        from metaloop.sweeps.search.warm_start import WarmStart  # it imports the learners

        folders = [Path(each).expanduser() for each in self.search.warm_start]
        for folder in folders:
            if folder.resolve() == self.directory.resolve():
                raise UserError(
                    f"search.warm_start: {folder} is the folder of this search itself; name sweeps on other data sets"
                )
        return WarmStart([read_finished(each, self.search.space) for each in folders], self.search.space, self.search.seed)

    def _known_best(self, number: int) -> "tuple[Params, str] | None":
        """What the finished sweeps propose for the trial with this number."""
        if self.warm is None:
            return None
        trials = [trial for trial in self.trials() if set(trial.params) == set(self.space)]
        sign = 1.0 if next(iter(self.directions.values())) == "maximize" else -1.0
        scores = [sign * t.values[0] if t.state == TrialState.COMPLETE and t.values else None for t in trials]
        return self.warm.propose(number, [trial.params for trial in trials], scores)

    def is_complete(self, trial: FrozenTrial) -> bool:
        """Whether the trial has all its parameters. A trial whose proposal was interrupted is marked as failed."""
        if set(trial.params) == set(self.space):
            return True
        self._study.tell(trial.number, state=TrialState.FAIL)
        return False

    @staticmethod
    def key_of(trial: FrozenTrial) -> str | None:
        """Key of the trial's run in the ledger; None if the proposing process was killed before it entered the run."""
        return trial.user_attrs.get(_KEY)

    def overrides_of(self, trial: FrozenTrial) -> dict[str, str]:
        """The overrides of a trial's run.

        Raises:
            UserError: a value of the trial is outside the search's space.
        """
        for key, one in self.search.space.items():
            value = trial.params[key]
            if value not in one.choices if one.kind == "choice" else not isinstance(value, int | float):
                path = self.directory / JOURNAL
                raise UserError(f"{path}: trial {trial.number} has {key}={value!r}, which is not in search.space")
        return {key: one.to_text(trial.params[key]) for key, one in self.search.space.items()}

    def assign(self, trial: FrozenTrial, key: str) -> None:
        """Record the key of the trial's run in the ledger."""
        self._storage.set_trial_user_attr(self._storage_id(trial), _KEY, key)

    def report(self, trial: FrozenTrial, scores: Mapping[int, float]) -> bool:
        """Record meta-validation scores by outer step. Return whether new scores mean that the trial should be pruned."""
        known = self._current(trial).intermediate_values
        new = {step: score for step, score in scores.items() if step not in known}
        for step, score in new.items():
            self._storage.set_trial_intermediate_value(self._storage_id(trial), step, score)
        if not new or self.search.prune is None:
            return False
        return bool(self._study.pruner.prune(self._study, self._current(trial)))

    def end(self, trial: FrozenTrial, values: Sequence[float | None]) -> None:
        """Record that the trial's run is done with these objective values. A value that is not finite makes it a failure."""
        if all(value is not None and math.isfinite(value) for value in values):
            self._study.tell(trial.number, [float(value) for value in values if value is not None])
        else:
            self.fail(trial)

    def fail(self, trial: FrozenTrial) -> None:
        """Record that the trial's run failed and will not be retried."""
        self._study.tell(trial.number, state=TrialState.FAIL)

    def prune(self, trial: FrozenTrial) -> None:
        """Record that the trial's run was stopped early."""
        self._study.tell(trial.number, state=TrialState.PRUNED)

    def replace_failed(self, trial: FrozenTrial, values: Sequence[float | None]) -> bool:
        """Replace a failed trial whose run was retried and is done. Return False if a value is not finite again."""
        finite = [float(value) for value in values if value is not None and math.isfinite(value)]
        if len(finite) < len(values):
            return False
        attrs = {_KEY: self.key_of(trial), _AGAIN: trial.number}
        new = create_trial(params=trial.params, distributions=trial.distributions, values=finite, user_attrs=attrs)
        self._study.add_trial(new)
        return True

    def best(self) -> list[FrozenTrial]:
        """The best trial, or the Pareto-optimal trials if there are several objectives; each run once."""
        if not any(trial.state == TrialState.COMPLETE for trial in self.trials()):
            return []
        unique: dict[str | None, FrozenTrial] = {}
        for trial in sorted(self._study.best_trials, key=lambda trial: trial.number):
            unique.setdefault(self.key_of(trial), trial)
        return list(unique.values())[: 1 if len(self.directions) == 1 else None]

    def importances(self) -> dict[str, dict[str, float] | None]:
        """Importance of each parameter for reaching good values, by objective; None while too few trials have ended."""
        done = sum(trial.state == TrialState.COMPLETE for trial in self.trials())
        if done < _MIN_TRIALS:
            return dict.fromkeys(self.directions)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, _MIN_GOOD / done)))
        result: dict[str, dict[str, float] | None] = {}
        for index, (name, direction) in enumerate(self.directions.items()):
            target = _Target(index, -1 if direction == "maximize" else 1)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*importances of params to achieve low.*")  # low is what we want
                shares = get_param_importances(self._study, evaluator=evaluator, target=target)
            result[name] = {key: float(share) for key, share in shares.items()}
        return result

    def _current(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial in its current state."""
        return self._study.get_trials(deepcopy=False)[trial.number]

    def _storage_id(self, trial: FrozenTrial) -> int:
        """The trial's number in the storage."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)


@dataclass(frozen=True)
class _Target:
    """One objective of a trial, with the sign that makes low values good."""

    index: int
    sign: int

    def __call__(self, trial: FrozenTrial) -> float:
        return self.sign * float(trial.values[self.index])


class _NoLock(JournalFileOpenLock):
    """A lock of the journal that does nothing, since :meth:`Study.locked` already holds one."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _drop_partial_line(path: Path) -> None:
    """Remove the partial line that a killed process or a full disk left at the journal's end. Optuna cannot read past it."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def _distribution(one: Parameter) -> BaseDistribution:
    if one.kind == "choice":
        return CategoricalDistribution(one.choices)
    if one.kind == "int":
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def _sampler(search: Search, number: int, *, informed: bool = False) -> optuna.samplers.BaseSampler:
    """The sampler of one trial. Every trial has its own seed, so that a resumed search does not repeat random numbers."""
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    if search.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    # TPE begins with random trials; those that finished sweeps propose take their place.
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_INFORMED if informed else _UNINFORMED)


def _pruner(search: Search, resource: tuple[int, int]) -> optuna.pruners.BasePruner:
    if search.prune == "median":
        return optuna.pruners.MedianPruner()
    if search.prune == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, resource[0]), max_resource=max(1, *resource))
    return optuna.pruners.NopPruner()
