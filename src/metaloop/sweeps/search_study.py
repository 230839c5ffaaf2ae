"""The trials of a search, kept by Optuna in a journal in the sweep's folder; the only file that imports it.

Optuna proposes and remembers; what ran and how it ended is the ledger's. Every method that reads or writes is called while
:meth:`Study.locked`, so that several processes share one search.
"""

import fcntl
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from metaloop.errors import UserError
from metaloop.sweeps.search import Parameter, Search

JOURNAL, LOCK = "search.journal", "search.lock"
IMPORTANCE = "PED-ANOVA"  # Watanabe et al. 2023; needs nothing but Optuna
_NAME = "search"
_ENOUGH = 10  # finished trials from which importances are told
_GOOD = 5  # trials that PED-ANOVA compares with the rest, at least
_KEY, _AGAIN = "key", "again"  # of a trial: its run in the ledger; the failed trial whose run was mended


class Study:
    """The trials of the search in ``directory``.

    Args:
        directory: of the sweep.
        search: what is searched.
        overrides: of all runs; together with the space they are what the search is.
        mode: "maximize" or "minimize", of the meta-validation score.
        resource: outer steps of the first validation and of a whole run, between which hyperband shares them out.

    Raises:
        UserError: the folder holds another search.
    """

    def __init__(
        self, directory: Path, search: Search, overrides: Mapping[str, str], mode: str, resource: tuple[int, int]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.search = directory, search
        self.directions = {name: direction or mode for name, direction in search.objectives.items()}
        self.space = {key: _distribution(one) for key, one in search.space.items()}
        with self.locked():
            self._storage = JournalStorage(JournalFileBackend(str(directory / JOURNAL), lock_obj=_Held(str(directory / LOCK))))
            self._study = optuna.create_study(
                storage=self._storage, study_name=_NAME, load_if_exists=True, pruner=_pruner(search, resource),
                directions=list(self.directions.values()), sampler=_sampler(search, 0),
            )  # fmt: skip
            self._check_identity(search.identity() | {"overrides": dict(overrides)})
        self._id = self._storage.get_study_id_from_name(_NAME)

    def _check_identity(self, told: dict[str, Any]) -> None:
        known = self._study.user_attrs.get("search")
        if known is None:
            self._study.set_user_attr("search", told)
        elif known != told:
            parts = [name for name in told if known.get(name) != told[name]]
            raise UserError(
                f"{self.directory} holds a search with other {' and '.join(parts)}: their trials cannot be compared. Take "
                f"another hydra.sweep.dir, or the earlier {' and '.join(parts)}; trials, sampler, seed and prune may change"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the search's lock, which dies with the process, however it dies."""
        with (self.directory / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _drop_half_a_line(self.directory / JOURNAL)
            yield

    def trials(self) -> list[FrozenTrial]:
        """All that count, in their order: not those whose proposal was cut off, nor failures that were mended since."""
        found = self._study.get_trials(deepcopy=False)
        mended = {trial.user_attrs.get(_AGAIN) for trial in found}
        return [
            trial for trial in found
            if trial.number not in mended and (trial.state != TrialState.FAIL or _KEY in trial.user_attrs)
        ]  # fmt: skip

    def ask(self) -> FrozenTrial:
        """A new proposal. It depends on the trials that have ended, the seed and its own number, not on who asks."""
        self._study.sampler = _sampler(self.search, len(self._study.get_trials(deepcopy=False)))
        number = self._study.ask(self.space).number
        return self._study.get_trials(deepcopy=False)[number]

    def whole(self, trial: FrozenTrial) -> bool:
        """Whether the trial has all its parameters; ends it where its proposal was cut off."""
        if set(trial.params) == set(self.space):
            return True
        self._study.tell(trial.number, state=TrialState.FAIL)
        return False

    @staticmethod
    def key_of(trial: FrozenTrial) -> str | None:
        """The trial's run in the ledger; None where its proposer was killed before it had one."""
        return trial.user_attrs.get(_KEY)

    def typed(self, trial: FrozenTrial) -> dict[str, str]:
        """The overrides that a trial stands for."""
        return {key: one.typed(trial.params[key]) for key, one in self.search.space.items()}

    def assign(self, trial: FrozenTrial, key: str) -> None:
        """Note which run of the ledger the trial is."""
        self._storage.set_trial_user_attr(self._number(trial), _KEY, key)

    def report(self, trial: FrozenTrial, scores: Mapping[int, float]) -> bool:
        """Note meta-validation scores by outer step; whether there were new ones after which the trial should be pruned."""
        known = self._now(trial).intermediate_values
        new = {step: score for step, score in scores.items() if step not in known}
        for step, score in new.items():
            self._storage.set_trial_intermediate_value(self._number(trial), step, score)
        if not new or self.search.prune is None:
            return False
        return bool(self._study.pruner.prune(self._study, self._now(trial)))

    def end(self, trial: FrozenTrial, values: Sequence[float | None]) -> None:
        """The trial's run is done, with these values of the objectives; one that is no number makes it a failure."""
        if all(value is not None and math.isfinite(value) for value in values):
            self._study.tell(trial.number, [float(value) for value in values if value is not None])
        else:
            self.fail(trial)

    def fail(self, trial: FrozenTrial) -> None:
        """The trial's run failed for good."""
        self._study.tell(trial.number, state=TrialState.FAIL)

    def prune(self, trial: FrozenTrial) -> None:
        """The trial's run was stopped early."""
        self._study.tell(trial.number, state=TrialState.PRUNED)

    def mend(self, trial: FrozenTrial, values: Sequence[float | None]) -> bool:
        """A failed trial's run was tried again and is done; whether its values are any better."""
        given = [float(value) for value in values if value is not None and math.isfinite(value)]
        if len(given) < len(values):
            return False
        attrs = {_KEY: self.key_of(trial), _AGAIN: trial.number}
        mended = create_trial(params=trial.params, distributions=trial.distributions, values=given, user_attrs=attrs)
        self._study.add_trial(mended)
        return True

    def best(self) -> list[FrozenTrial]:
        """The best trial, or with several objectives those that no other beats in all; each run once."""
        if not any(trial.state == TrialState.COMPLETE for trial in self.trials()):
            return []
        found: dict[str | None, FrozenTrial] = {}
        for trial in sorted(self._study.best_trials, key=lambda trial: trial.number):
            found.setdefault(self.key_of(trial), trial)
        return list(found.values())[: 1 if len(self.directions) == 1 else None]

    def importances(self) -> dict[str, dict[str, float] | None]:
        """Share of each parameter in reaching good values, by objective; None while too few trials have ended."""
        done = sum(trial.state == TrialState.COMPLETE for trial in self.trials())
        if done < _ENOUGH:
            return dict.fromkeys(self.directions)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, _GOOD / done)))
        found: dict[str, dict[str, float] | None] = {}
        for place, (name, direction) in enumerate(self.directions.items()):
            sign = -1 if direction == "maximize" else 1
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*importances of params to achieve low.*")  # that is wanted
                shares = get_param_importances(
                    self._study, evaluator=evaluator, target=lambda trial, place=place, sign=sign: sign * trial.values[place]
                )
            found[name] = {key: float(share) for key, share in shares.items()}
        return found

    def _now(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial as it stands."""
        return self._study.get_trials(deepcopy=False)[trial.number]

    def _number(self, trial: FrozenTrial) -> int:
        """The trial's number in the storage."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)


class _Held(JournalFileOpenLock):
    """Optuna's lock of the journal, which :meth:`Study.locked` already is."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _drop_half_a_line(path: Path) -> None:
    """What a process that was killed, or a full disk, left at the journal's end; Optuna would not read past it."""
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


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Made anew for every trial: a search that is started again does not draw the same numbers twice."""
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.NSGAIISampler(seed=seed) if search.sampler == "nsga2" else optuna.samplers.TPESampler(seed=seed)


def _pruner(search: Search, resource: tuple[int, int]) -> optuna.pruners.BasePruner:
    if search.prune == "median":
        return optuna.pruners.MedianPruner()
    if search.prune == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, resource[0]), max_resource=max(1, *resource))
    return optuna.pruners.NopPruner()
