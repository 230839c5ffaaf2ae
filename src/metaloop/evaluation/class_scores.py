"""Accuracy by class, and which classes are taken for which, over many episodes."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.metrics.interval import mean_interval


class ClassScores:
    """Counts of answers by the classes that they name.

    Args:
        distribution: whose classes; where it does not name them they are told apart by their label in the episode.
    """

    def __init__(self, distribution: TaskDistribution) -> None:
        self._names = getattr(distribution, "names", None)
        self._turned = getattr(distribution, "rotations", "none") == "classes"
        self._right: dict[str, list[float]] = defaultdict(list)
        self._queries: dict[str, int] = defaultdict(int)
        self._asked: dict[tuple[str, str], int] = defaultdict(int)
        self._taken: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, guesses: Tensor, labels: Tensor, classes: Tensor | None, ways: int) -> None:
        """Count one episode.

        Args:
            guesses: (queries,) predicted labels of the real queries.
            labels: (queries,) the right ones.
            classes: (ways,) which of the split's classes each label stands for, -1 for none; None where nobody numbers them.
            ways: how many labels there are.
        """
        numbers = list(range(ways)) if classes is None else classes.tolist()
        names = [self._name(number, classes is not None) for number in numbers]
        for label in torch.unique(labels).tolist():
            own = guesses[labels == label]
            name = names[label]
            self._right[name].append((own == label).double().mean().item())
            self._queries[name] += len(own)
            for guess in range(ways):
                if numbers[guess] >= 0:
                    self._asked[name, names[guess]] += len(own)
                    self._taken[name, names[guess]] += int((own == guess).sum())

    def _name(self, number: int, of_split: bool) -> str:
        if not of_split:
            return f"label {number + 1}"
        if self._names is None:
            return f"class {number}"
        return f"{self._names[number // 4]} {90 * (number % 4)}°" if self._turned else str(self._names[number])

    def accuracies(self) -> list[dict[str, Any]]:
        """By class, the worst first: its queries, its episodes, and the mean over these of its accuracy in [0, 1]."""
        rows = []
        for name, values in self._right.items():
            found = mean_interval(values)
            own = {"mean": found.mean, "half_width": found.half_width}
            rows.append({"class": name, "queries": self._queries[name], "episodes": len(values), **own})
        return sorted(rows, key=lambda row: (row["mean"], row["class"]))

    def confusion(self) -> list[dict[str, Any]]:
        """Ordered pairs of classes that were mistaken, the most often first.

        ``taken`` of the ``asked`` queries of ``class`` in episodes that had both were answered with ``answer``.
        """
        pairs = [(a, b, taken, self._asked[a, b]) for (a, b), taken in self._taken.items() if taken and a != b]
        pairs.sort(key=lambda pair: (-pair[2] / pair[3], -pair[3], pair[:2]))
        return [{"class": a, "answer": b, "taken": taken, "asked": asked} for a, b, taken, asked in pairs]
