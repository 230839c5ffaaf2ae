"""Algorithm selection as tasks: a task is one data set to choose a learner for, its support set the data sets to learn from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import SPLITS, Dataset, NamedExamples, Oracle, TaskDistribution, check_split
from metaloop.data.philox import Stream
from metaloop.data.scenarios.scenario import Scenario, read_scenario
from metaloop.data.split_contents import split_contents
from metaloop.errors import UserError
from metaloop.problems.algorithm_selection import AlgorithmSelection
from metaloop.records.contents import SplitContents
from metaloop.system.suggestions import did_you_mean
from metaloop.types import EpisodeSpec, Examples, Tasks, highest

SHIPPED = Path(__file__).parent / "tables"  # the scenario that comes with the package


class SelectionTasks(TaskDistribution):
    """The data sets of a scenario, each as one task with the other folds' data sets as its support set.

    Inputs are (2, features): meta-features in their own units (zero for unknown ones), and ones where they are known. Targets
    are as in :class:`metaloop.problems.algorithm_selection.AlgorithmSelection`; the single best is that of the support set.
    A support set has at most ``shots`` data sets, drawn at random if there are more.

    In meta-test, task ``i`` is data set ``i`` with all other folds. In the inner cross-validation, one further fold is left out
    of the support set, another one after every round through all data sets; so no support set is one of meta-test.

    Args:
        scenario: the scenario, with at least three folds.
        inner: whether these are the tasks of the inner cross-validation.
    """

    cross_validated = True

    def __init__(self, scenario: Scenario, *, inner: bool) -> None:
        self.scenario, self.inner = scenario, inner
        self.problem = AlgorithmSelection(_gap(scenario), scenario.measure, scenario.algorithms, scenario.features)
        self.input_shape = (2, len(scenario.features))
        self._folds = int(scenario.folds.max()) + 1
        self.episodes = len(scenario.instances) * (self._folds - 1 if inner else 1)
        known = ~np.isnan(scenario.x)
        self._x = torch.from_numpy(np.stack([np.where(known, scenario.x, 0.0), known], 1)).float()
        self._y = torch.from_numpy(scenario.y).float()

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError unless a task has one query and no classes."""
        if spec.ways != 1 or spec.queries != 1 or not isinstance(spec.shots, int):
            raise UserError(
                f"{spec.said('ways', 'queries', 'shots')}: a task is one data set, with ways=1, queries=1 and one number of "
                f"shots; take episode=scenario"
            )

    def outputs(self, spec: EpisodeSpec) -> int:
        """Number of learners, and one for the single best."""
        return len(self.scenario.algorithms) + 1

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`."""
        return min(highest(spec.shots), len(self._x)) * 2 * len(self.scenario.features)

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; a data set counts as a class with one example."""
        return split_contents(dict.fromkeys(self.scenario.instances, 1), {"x": self._x, "y": self._y})

    def class_name(self, number: int) -> str:
        """Name of a data set."""
        return self.scenario.instances[number]

    def oracle(self) -> Oracle:
        """The best learner of each data set."""
        return Oracle("best learner of each data set", lambda stream, tasks: tasks.query.y)

    def all_examples(self) -> NamedExamples:
        """All data sets as the support set of one task."""
        single = self.scenario.algorithms[int(self.scenario.y.mean(0).argmax())]
        examples, _ = _with_single_best(self._x, self._y, torch.arange(len(self._x)), None)
        return NamedExamples(examples, self.scenario.features, (*self.scenario.algorithms, single))

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        count = len(self._x)
        order = stream.uniform(numbers, count, "support")
        parts = [self._task(int(number), row.cpu(), highest(spec.shots)) for number, row in zip(numbers, order, strict=True)]
        width = min(highest(spec.shots), self._most())
        padded = [_padded(support, width) for support, _ in parts]
        support, query = (_stacked(each) for each in (padded, [query for _, query in parts]))
        return Tasks(support, query, numbers.cpu()).to(numbers.device)

    def _most(self) -> int:
        """Size of the largest support set."""
        sizes = np.sort(np.bincount(self.scenario.folds))
        return int(len(self._x) - sizes[: 2 if self.inner else 1].sum())

    def _task(self, number: int, order: Tensor, shots: int) -> tuple[Examples, Examples]:
        """Support set and query of one task, (1, data sets, ...) each."""
        folds = self.scenario.folds
        query = number % len(folds)
        left_out = [folds[query]]
        if self.inner:
            left_out.append((folds[query] + 1 + number // len(folds) % (self._folds - 1)) % self._folds)
        rows = torch.from_numpy(np.flatnonzero(~np.isin(folds, left_out)))
        if len(rows) > shots:
            rows = rows[order[rows].argsort()[:shots]].sort().values
        return _with_single_best(self._x, self._y, rows, query)

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution; tasks move to the device of their numbers when they are drawn."""
        return self


def _gap(scenario: Scenario) -> float:
    """Mean over data sets of the oracle's performance minus that of the single best of the other folds."""
    means = [scenario.y[scenario.folds != fold].mean(0) for fold in range(int(scenario.folds.max()) + 1)]
    single = [scenario.y[row, int(means[fold].argmax())] for row, fold in enumerate(scenario.folds)]
    gap = float((scenario.y.max(1) - single).mean())
    if gap <= 0:
        raise UserError(f"{scenario.name}: the single best learner is the best on every data set; there is nothing to choose")
    return gap


def _with_single_best(x: Tensor, y: Tensor, rows: Tensor, query: int | None) -> tuple[Examples, Examples]:
    """Support (1, n, ...) and query (1, 1, ...) whose last target is the performance of the support's single best."""
    best = int(y[rows].mean(0).argmax())
    targets = torch.cat([y, y[:, best : best + 1]], 1)
    asked = [0 if query is None else query]
    return Examples(x[rows][None], targets[rows][None]), Examples(x[asked][None], targets[asked][None])


def _padded(support: Examples, width: int) -> Examples:
    count = support.y.shape[1]
    assert isinstance(support.x, Tensor)
    x, y = (torch.cat([t, t.new_zeros(1, width - count, *t.shape[2:])], 1) for t in (support.x, support.y))
    return Examples(x, y, torch.arange(width)[None] < count)


def _stacked(parts: Sequence[Examples]) -> Examples:
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])  # type: ignore[misc]
    masks = [part.mask for part in parts]
    return Examples(x, y, None if masks[0] is None else torch.cat(masks))  # type: ignore[arg-type]


class ASlib(Dataset):
    """A scenario of ASlib: which learner for a new data set, from its meta-features, in the scenario's cross-validation.

    Meta-test is the given cross-validation: one task for each data set. Its support sets together hold every data set, so
    learners that learn from one task to the next are refused. Meta-training and meta-validation have the tasks of an inner
    cross-validation.

    Args:
        path: folder or zip archive of the scenario; None for the one that comes with the package, learners of scikit-learn on
            tables.
        features: names of the meta-features to use; empty for all.

    Raises:
        UserError: the scenario cannot be read, has fewer than three folds, or has no such meta-feature.
    """

    def __init__(self, path: str | None = None, features: Sequence[str] = ()) -> None:
        self._path = SHIPPED if path is None else Path(path).expanduser()
        self._features = tuple(features)
        self._splits: dict[str, SelectionTasks] = {}

    def split(self, name: str) -> SelectionTasks:
        """See :meth:`Dataset.split`."""
        check_split(name)
        if not self._splits:
            scenario = self._read()
            self._splits = {split: SelectionTasks(scenario, inner=split != "test") for split in SPLITS}
        return self._splits[name]

    def _read(self) -> Scenario:
        scenario = read_scenario(self._path)
        if scenario.folds.max() < 2:
            raise UserError(f"{self._path} has two folds; an inner cross-validation needs a third")
        return scenario if not self._features else _with_features(scenario, self._features)


def _with_features(scenario: Scenario, names: tuple[str, ...]) -> Scenario:
    """The scenario with some of its meta-features."""
    for name in names:
        if name not in scenario.features:
            hint = did_you_mean(name, scenario.features)
            raise UserError(f"dataset.features: {scenario.name} has no meta-feature {name!r}; {hint}".rstrip("; "))
    places = [scenario.features.index(name) for name in names]
    x = scenario.x[:, places]
    unknown = [scenario.instances[row] for row in np.flatnonzero(np.isnan(x).all(1))]
    if unknown:
        raise UserError(f"dataset.features: none of them is known of {', '.join(unknown[:3])}; add others")
    return Scenario(
        scenario.name, scenario.instances, scenario.algorithms, names, x, scenario.y, scenario.folds, scenario.measure
    )
