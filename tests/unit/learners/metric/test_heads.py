"""Closed-form heads against scikit-learn on the same features, and their derivatives against finite differences."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.svm import LinearSVC
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison
from metaloop.learners.metric.comparisons.logistic import Logistic
from metaloop.learners.metric.comparisons.ridge import Ridge
from metaloop.learners.metric.comparisons.svm import SVM
from metaloop.types import Examples

SIZES = [(5, 5, 64), (5, 25, 64), (5, 25, 8), (10, 20, 32), (3, 60, 4)]  # ways, examples, features
HEADS: dict[str, Callable[[float], Comparison]] = {
    "ridge": lambda c: Ridge(1 / c, 1.0, bias=False, per_example=False),
    "logistic": lambda c: Logistic(1 / c, 1.0, bias=False),
    "svm": lambda c: SVM(c, 1.0),
}
every_head = pytest.mark.parametrize("name", HEADS)


def made(ways: int, examples: int, features: int, size: float = 1.0) -> tuple[Tensor, Examples, Tensor]:
    random = torch.Generator().manual_seed(examples + features)
    y = torch.arange(examples) % ways
    x, query, means = (torch.randn(n, features, generator=random, dtype=torch.float64) for n in (examples, 30, ways))
    x = size * (x + 0.5 * means[y])
    return x, Examples(x, y, None, ways), size * query


def answers(head: Comparison, x: Tensor, labels: Examples, query: Tensor) -> Tensor:
    return head.double()(x, labels, query, query_mask=None, unlabelled=None)


def of_sklearn(name: str, c: float, x: Tensor, y: Tensor, query: Tensor) -> np.ndarray:
    if name == "ridge":
        one_hot = torch.nn.functional.one_hot(y).double()
        return SklearnRidge(alpha=1 / c, fit_intercept=False).fit(x.numpy(), one_hot.numpy()).predict(query.numpy())
    if name == "logistic":
        model = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=100_000)
    else:
        model = LinearSVC(multi_class="crammer_singer", C=c, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x.numpy(), y.numpy()).decision_function(query.numpy())


@pytest.mark.parametrize(("c", "size"), [(0.1, 1.0), (0.1, 10.0), (10.0, 0.1)])
@pytest.mark.parametrize(("ways", "examples", "features"), SIZES)
@every_head
def test_decision_values_are_those_of_scikit_learn(
    name: str, ways: int, examples: int, features: int, c: float, size: float
) -> None:
    x, labels, query = made(ways, examples, features, size)
    with torch.no_grad():
        found = answers(HEADS[name](c), x, labels, query).numpy()
    expected = of_sklearn(name, c, x, labels.y, query)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("features", [4, 12])
@every_head
def test_derivatives_equal_finite_differences(name: str, features: int) -> None:
    x, labels, query = made(3, 9, features)
    head = HEADS[name](0.5).double()
    at = (x.requires_grad_(), query.requires_grad_(), *head.parameters())
    assert torch.autograd.gradcheck(lambda x, query, *_: answers(head, x, labels, query), at, fast_mode=True)


@every_head
def test_padding_and_absent_classes_are_as_if_they_were_not_there(name: str) -> None:
    x, labels, query = made(3, 9, 6)
    expected = answers(HEADS[name](0.5), x, labels, query)
    noise = torch.full((2, 6), 7.0, dtype=torch.float64)
    mask = torch.arange(11) < 9
    y = torch.cat([labels.y, torch.tensor([1, 3])])
    found = answers(HEADS[name](0.5), torch.cat([x, noise]), Examples(x, y, mask, 4), query)
    torch.testing.assert_close(found[:, :3], expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(found[:, 3], torch.zeros_like(found[:, 3]), rtol=0, atol=1e-7)


@every_head
def test_equal_examples_and_large_features_in_float32_stay_finite(name: str) -> None:
    x, labels, query = made(5, 25, 64, 100.0)
    x = x.float()
    x[5:10] = x[:5]
    x.requires_grad_()
    found = HEADS[name](0.1)(x, labels, query.float(), query_mask=None, unlabelled=None)
    (gradient,) = torch.autograd.grad(found.square().mean(), x)
    assert found.dtype is torch.float32
    assert found.isfinite().all()
    assert gradient.isfinite().all()


def r2d2_by_the_authors(x: Tensor, y: Tensor, query: Tensor, regularisation: Tensor, scale: Tensor) -> Tensor:
    """Bertinetto et al.'s predictions as their code makes them, by the system of either size."""
    count = len(x)
    one_hot = torch.nn.functional.one_hot(y).double() / count**0.5
    rows = torch.cat([x, torch.ones(count, 1).double()], 1) / count**0.5
    if count > rows.shape[1]:
        weights = torch.inverse(rows.T @ rows + regularisation * torch.eye(rows.shape[1]).double()) @ rows.T @ one_hot
    else:
        weights = rows.T @ torch.inverse(rows @ rows.T + regularisation * torch.eye(count).double()) @ one_hot
    return scale * (query @ weights[:-1] + weights[-1])


@pytest.mark.parametrize(("ways", "examples", "features"), SIZES)
def test_C7_r2d2_is_the_authors(ways: int, examples: int, features: int) -> None:
    """Answers and derivatives."""
    x, labels, query = made(ways, examples, features)
    head = Ridge(0.3).double()
    at = (x.requires_grad_(), query.requires_grad_(), *head.parameters())
    found = answers(head, x, labels, query)
    expected = r2d2_by_the_authors(x, labels.y, query, head.log_regularisation.exp(), head.scale)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(*(torch.autograd.grad(values.square().sum(), at) for values in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_C7_the_regularisation_means_the_same_at_any_number_of_shots() -> None:
    """A support set twice as large by copies gives the same answers."""
    x, labels, query = made(3, 6, 4)
    doubled = Examples(torch.cat([x, x]), torch.cat([labels.y, labels.y]), None, 3)
    torch.testing.assert_close(answers(Ridge(), doubled.x, doubled, query), answers(Ridge(), x, labels, query))
    by_sum = partial(Ridge, per_example=False)
    assert not torch.allclose(answers(by_sum(), doubled.x, doubled, query), answers(by_sum(), x, labels, query))


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_C7_a_bias_is_a_column_of_ones(name: str) -> None:
    x, labels, query = made(3, 9, 4)
    kind: Callable[..., Comparison] = {"ridge": Ridge, "logistic": Logistic}[name]
    wider, wider_query = (torch.cat([rows, torch.ones(len(rows), 1).double()], 1) for rows in (x, query))
    expected = answers(kind(0.5, bias=False), wider, labels, wider_query)
    torch.testing.assert_close(answers(kind(0.5), x, labels, query), expected)


def test_far_from_the_minimum_a_whole_newton_step_is_not_taken() -> None:
    """Features so large that undamped steps oscillate."""
    x, labels, query = made(3, 30, 2, 30.0)
    labels = Examples(x, labels.y.roll(1), None, 3)
    with torch.no_grad():
        found = answers(Logistic(1e-3, 1.0, steps=20, bias=False), x, labels, query).numpy()
    np.testing.assert_allclose(found, of_sklearn("logistic", 1e3, x, labels.y, query), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: Ridge(regularisation=0.0), "regularisation=0.0"),
        (lambda: Ridge(scale=-1.0), "scale=-1.0"),
        (lambda: Logistic(steps=0), "steps=0"),
        (lambda: SVM(c=0.0), "c=0.0"),
        (lambda: SVM(steps=0), "steps=0"),
    ],
)
def test_impossible_values_are_refused_with_their_key(build: Callable[[], Comparison], key: str) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.comparison\.{key}"):
        build()
