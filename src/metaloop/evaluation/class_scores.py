"""Accuracy of each class, and pairs of classes that are confused, over many episodes."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.metrics.proportions import clustered_proportion
from metaloop.types import Tasks


class ClassScores:
    """Counts of predictions for each class.

    Args:
        distribution: Task distribution that names the classes. If it does not number them, labels of an episode are counted.
    """

    def __init__(self, distribution: TaskDistribution) -> None:
        self._distribution = distribution
        self._accuracies: dict[str, list[float]] = defaultdict(list)
        self._queries: dict[str, int] = defaultdict(int)
        self._possible: dict[tuple[str, str], int] = defaultdict(int)  # queries by class and other class of the episode
        self._predicted: dict[tuple[str, str], int] = defaultdict(int)  # queries by class and predicted class

    def names(self, tasks: Tasks) -> list[str] | None:
        """See :meth:`TaskDistribution.task_classes`."""
        return self._distribution.task_classes(tasks)

    def add(self, guesses: Tensor, labels: Tensor, classes: Tensor | None, ways: int) -> None:
        """Count one episode.

        Args:
            guesses: (queries,) predicted labels of the real queries.
            labels: (queries,) true labels.
            classes: (ways,) number of the split's class that each label stands for, -1 for none; None if the data set does
                not number its classes.
            ways: Number of labels.
        """
        numbers = list(range(ways)) if classes is None else classes.tolist()
        names = [self._name(number, classes is not None) for number in numbers]
        for label in torch.unique(labels).tolist():
            of_class = guesses[labels == label]
            name = names[label]
            self._accuracies[name].append((of_class == label).double().mean().item())
            self._queries[name] += len(of_class)
            for guess in range(ways):
                if numbers[guess] >= 0:
                    self._possible[name, names[guess]] += len(of_class)
                    self._predicted[name, names[guess]] += int((of_class == guess).sum())

    def _name(self, number: int, of_split: bool) -> str:
        return self._distribution.class_name(number) if of_split else f"label {number + 1}"

    def accuracies(self) -> list[dict[str, Any]]:
        """Accuracy of each class, lowest first.

        Returns:
            For each class its name, its numbers of queries and episodes, and its accuracy in [0, 1], mean over episodes, and
            the ends of its interval.
        """
        rows = []
        for name, values in self._accuracies.items():
            share = clustered_proportion(values, self._queries[name])
            accuracy = {"mean": share.mean, "low": share.low, "high": share.high}
            rows.append({"class": name, "queries": self._queries[name], "episodes": len(values), **accuracy})
        return sorted(rows, key=lambda row: (row["mean"], row["class"]))

    def confusion(self) -> list[dict[str, Any]]:
        """Ordered pairs of classes that were confused, most often first.

        Returns:
            For each pair ``class``, the wrong prediction ``answer``, the number ``asked`` of queries of ``class`` in episodes
            that had both classes, and the number ``taken`` of those that were predicted to be ``answer``.
        """
        pairs = [(a, b, count, self._possible[a, b]) for (a, b), count in self._predicted.items() if count and a != b]
        pairs.sort(key=lambda pair: (-pair[2] / pair[3], -pair[3], pair[:2]))
        return [{"class": a, "answer": b, "taken": count, "asked": possible} for a, b, count, possible in pairs]
