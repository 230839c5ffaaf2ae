"""Counts of right and wrong answers by class."""

import pytest
import torch

from metaloop.data.pool import ClassPool
from metaloop.evaluation.class_scores import ClassScores


def pool(rotations: str = "none") -> ClassPool:
    return ClassPool(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), [2, 2, 2], ["ash", "elm", "oak"], rotations=rotations)


def numbers(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def test_accuracies_are_meant_over_the_episodes_that_have_the_class() -> None:
    scores = ClassScores(pool())
    scores.add(numbers(0, 0, 1, 1), numbers(0, 0, 1, 1), numbers(2, 0), 2)  # oak 2 of 2, ash 2 of 2
    scores.add(numbers(0, 1, 1, 0), numbers(0, 0, 1, 1), numbers(2, 1), 2)  # oak 1 of 2, elm 1 of 2
    found = {row["class"]: row for row in scores.accuracies()}
    assert [row["class"] for row in scores.accuracies()] == ["elm", "oak", "ash"]
    assert (found["oak"]["mean"], found["oak"]["queries"], found["oak"]["episodes"]) == (0.75, 4, 2)
    assert 0 <= found["oak"]["low"] < 0.75 < found["oak"]["high"] <= 1
    assert (found["ash"]["mean"], found["ash"]["high"]) == (1.0, 1.0)
    assert found["ash"]["low"] == pytest.approx(0.3424, abs=1e-4)  # Wilson's of 2 of 2


def test_a_mistake_counts_among_queries_that_could_have_been_mistaken_so() -> None:
    scores = ClassScores(pool())
    scores.add(numbers(1, 0, 1, 1), numbers(0, 0, 1, 1), numbers(2, 0), 2)  # one oak taken for ash
    scores.add(numbers(0, 0, 1, 0), numbers(0, 0, 1, 1), numbers(2, 1), 2)  # one elm taken for oak; no ash there
    scores.add(numbers(0, 0, 1, 1), numbers(0, 0, 1, 1), numbers(2, 0), 2)
    assert scores.confusion() == [
        {"class": "elm", "answer": "oak", "taken": 1, "asked": 2},
        {"class": "oak", "answer": "ash", "taken": 1, "asked": 4},
    ]


def test_ways_that_an_episode_lacks_could_not_be_answered() -> None:
    scores = ClassScores(pool())
    scores.add(numbers(0), numbers(0), numbers(1, -1), 2)  # elm alone
    scores.add(numbers(1, 1), numbers(0, 1), numbers(1, 2), 2)
    assert scores.confusion() == [{"class": "elm", "answer": "oak", "taken": 1, "asked": 1}]


def test_turned_classes_say_by_how_much_and_unnumbered_ones_are_labels() -> None:
    turned = ClassScores(pool("classes"))
    turned.add(numbers(0), numbers(0), numbers(6, -1), 2)
    assert turned.accuracies()[0]["class"] == "elm 180°"
    plain = ClassScores(pool())
    plain.add(numbers(1), numbers(0), None, 2)
    assert plain.accuracies()[0]["class"] == "label 1"
    assert plain.confusion()[0]["answer"] == "label 2"
