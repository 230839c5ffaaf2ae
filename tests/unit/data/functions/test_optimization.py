"""Optimisation problems: their losses, what is asked of them, and refusals."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from metaloop.data.functions.optimization import Fitting, FittingProblems, QuadraticProblems, Quadratics
from metaloop.data.functions.sinusoid import Sinusoids
from metaloop.data.images.digits import Digits
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool, pool_from_arrays
from metaloop.errors import UserError
from metaloop.problems.table_classification import TableClassification
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import EpisodeSpec, Examples

STREAM, NUMBERS = Stream(0, "train"), torch.arange(300)
QUADRATIC = EpisodeSpec(1, 10, 10)


def make_pool() -> ClassPool:
    """Six classes of five 1x1 images whose grey is 10 class + drawing."""
    images = 10 * torch.arange(6)[:, None] + torch.arange(5)
    return pool_from_arrays({f"c{k}": row.to(torch.uint8)[:, None, None, None] for k, row in enumerate(images)}, split="train")


def greys(examples: Examples) -> torch.Tensor:
    assert isinstance(examples.x, torch.Tensor)
    return (examples.x.flatten(2)[..., 0] * 255).round().long()


def test_the_mean_squared_error_is_the_papers_sum_of_squares() -> None:
    tasks = QuadraticProblems(10).draw(STREAM, NUMBERS, QUADRATIC)
    assert tasks.support.x.shape == (300, 10, 10)
    assert tasks.support.y.shape == (300, 10, 1)
    w, y = tasks.support.x / 10**0.5, tasks.support.y / 10**0.5
    for values in (w, y):
        assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-3
    point = torch.randn(10, 1)
    for n in range(3):
        one = tasks.query.map(lambda tensor, n=n: tensor[n])
        expected = ((w[n] @ point - y[n]) ** 2).sum()
        torch.testing.assert_close(MeanSquaredError()(one.x @ point, one), expected)
    assert torch.equal(tasks.query.x, tasks.support.x)
    assert torch.equal(tasks.query.y, tasks.support.y)


def test_quadratics_are_functions_of_their_number_and_split() -> None:
    dataset = Quadratics(10)
    problems = dataset.split("train")
    together = problems.draw(STREAM, NUMBERS, QUADRATIC).support
    alone = problems.draw(STREAM, NUMBERS[7:8], QUADRATIC).support
    assert torch.equal(together.x[7:8], alone.x)
    assert torch.equal(together.y[7:8], alone.y)
    other = dataset.split("test").draw(Stream(0, "test"), NUMBERS[:1], QUADRATIC).support
    assert not torch.equal(other.x, together.x[:1])
    assert abs(np.corrcoef(together.x[:-1].flatten(), together.x[1:].flatten())[0, 1]) < 0.03


def test_what_is_no_quadratic_is_refused() -> None:
    QuadraticProblems(3).check(EpisodeSpec(1, 4, 4))
    for spec in (EpisodeSpec(2, 10, 10), EpisodeSpec(1, 10, 5), EpisodeSpec(1, (5, 10), 10)):
        with pytest.raises(UserError, match=r"episode\.ways=.*episode=regression"):
            QuadraticProblems(10).check(spec)
    with pytest.raises(UserError, match=r"dataset\.dimension=0"):
        Quadratics(0)
    with pytest.raises(UserError, match="one of train, validation, test"):
        Quadratics(2).split("dev")


def test_queries_are_among_the_support_examples_class_by_class() -> None:
    problems, spec = FittingProblems(make_pool()), EpisodeSpec(3, 5, 2)
    problems.check(spec)  # all five drawings of a class
    tasks = problems.draw(STREAM, NUMBERS, spec)
    assert tasks.support.y[0].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert tasks.query.y[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert tasks.support.ways == 3
    assert torch.equal(tasks.classes[:, 0], greys(tasks.support)[:, 0] // 10)
    assert torch.equal(tasks.support.number, NUMBERS)
    for support, query in zip(greys(tasks.support), greys(tasks.query), strict=True):
        for way in range(3):
            of_class, asked = support[5 * way : 5 * way + 5], query[2 * way : 2 * way + 2]
            assert len(set((of_class // 10).tolist())) == 1
            assert sorted((of_class % 10).tolist()) == [0, 1, 2, 3, 4]
            assert set(asked.tolist()) <= set(of_class.tolist())
            assert len(set(asked.tolist())) == 2
    asked = (greys(tasks.query) % 10).flatten()
    assert stats.chisquare(torch.bincount(asked, minlength=5).numpy()).pvalue > 1e-3


def test_named_inputs_are_joined_each() -> None:
    tokens = torch.arange(24).view(12, 2)
    pool = ClassPool({"input_ids": tokens, "attention_mask": tokens + 100}, [4] * 3, list("abc"))
    tasks = FittingProblems(pool).draw(STREAM, NUMBERS, EpisodeSpec(2, 4, 1))
    assert tasks.support.x["input_ids"].shape == (300, 8, 2)
    assert torch.equal(tasks.support.x["attention_mask"], tasks.support.x["input_ids"] + 100)


def test_what_is_no_fitting_problem_is_refused() -> None:
    problems = FittingProblems(make_pool())
    for spec in (EpisodeSpec(3, 5, 5), EpisodeSpec(3, (2, 4), 1), EpisodeSpec((2, 3), 4, 1)):
        with pytest.raises(UserError, match="fewer queries than shots"):
            problems.check(spec)
    with pytest.raises(UserError, match="has only 5 examples"):
        problems.check(EpisodeSpec(3, 6, 2))
    with pytest.raises(UserError, match="classification"):
        FittingProblems(Sinusoids((0.1, 5.0), (0.0, 1.0), (-5.0, 5.0)))  # type: ignore[arg-type]


def test_digits_differ_between_splits_and_classes_do_not() -> None:
    dataset = Digits()
    pools = [dataset.split(name) for name in ("train", "validation", "test")]
    assert sum(sum(pool.class_sizes) for pool in pools) == 1797
    assert [min(pool.class_sizes) for pool in pools] == [87, 43, 44]
    assert all(pool.names == tuple("0123456789") for pool in pools)
    images = torch.cat([pool.inputs.flatten(1) for pool in pools])
    assert images.dtype == torch.uint8
    assert images.max() == 255
    assert len(images.unique(dim=0)) == 1797
    Fitting(dataset).split("test").check(EpisodeSpec(10, 40, 20))
    with pytest.raises(UserError, match="one of train, validation, test"):
        dataset.split("dev")


def test_digits_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        Digits().split("train")


def test_of_two_optimisers_that_fit_all_examples_the_lower_loss_is_better() -> None:
    pool, targets = make_pool(), torch.tensor([[0, 1]])
    problem = FittingProblems(pool).problem
    sure = 5 * F.one_hot(targets, 2).float()
    query = Examples(torch.zeros(1, 2, 1), targets)
    (metric, surer), (_, less_sure) = (problem.selection(problem.scores(outputs, query)) for outputs in (sure, 0.2 * sure))
    assert problem.scores(sure, query)["score"] == problem.scores(0.2 * sure, query)["score"]
    assert metric.better(surer.item(), less_sure.item())
    assert pool.problem.selection(problem.scores(sure, query))[0] == pool.problem.metric


def test_problems_on_other_kinds_of_classes_keep_their_scores() -> None:
    pool = make_pool()
    pool.problem = TableClassification()
    assert isinstance(FittingProblems(pool).problem, TableClassification)
    assert not pool.problem.selects_by_loss
