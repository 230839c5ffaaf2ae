"""Estimators of scikit-learn as learners."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.learners.estimator import Estimator
from metaloop.learners.estimator_fits import ScikitLearn
from metaloop.models.cells import Cells
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError
from metaloop.types import Examples, Tasks


def tasks(masked: bool = False) -> Tasks:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, 5, generator=random)
    y = (x[..., 0] > 0).long() + (x[..., 1] > 0.5).long()
    mask = torch.arange(24).expand(3, -1) < torch.tensor([[24], [20], [12]]) if masked else None
    return Tasks(Examples(x[:, :24], y[:, :24], mask, 4), Examples(x[:, 24:], y[:, 24:], None, 4), torch.arange(3))


def learner(estimator: Callable[[], ScikitLearn] = LogisticRegression) -> Estimator:
    return Estimator(Cells((5,), None), CrossEntropy(), 4, estimator, Loop())


@pytest.mark.parametrize("masked", [False, True])
def test_answers_are_the_estimators_probabilities(masked: bool) -> None:
    made = tasks(masked)
    probabilities = learner().adapt(made.support)(made.query.x).softmax(-1)
    for task, rows in enumerate((24, 20, 12) if masked else (24, 24, 24)):
        fitted = LogisticRegression().fit(made.support.x[task, :rows], made.support.y[task, :rows])
        expected = fitted.predict_proba(made.query.x[task])
        np.testing.assert_allclose(probabilities[task, :, fitted.classes_], expected, atol=1e-5)
        absent = [c for c in range(4) if c not in fitted.classes_]
        assert probabilities[task, :, absent].max() < 1e-6


def test_a_random_estimator_is_seeded_by_the_task() -> None:
    made = tasks()
    answers = [learner(RandomForestClassifier).adapt(made.support)(made.query.x) for _ in range(2)]
    assert torch.equal(*answers)
    alone = learner(RandomForestClassifier).adapt(made[1:2].support)(made[1:2].query.x)
    assert torch.equal(alone[0], answers[0][1])


def test_one_class_alone_is_answered_without_a_fit() -> None:
    made = tasks()
    support = Examples(made.support.x, torch.full_like(made.support.y, 2), None, 4, made.support.number)
    assert (learner().adapt(support)(made.query.x).argmax(-1) == 2).all()


def test_regression() -> None:
    made = tasks()
    y = made.support.x[..., :1] * 3
    regressor = Estimator(Cells((5,), None), MeanSquaredError(), 1, lambda: Ridge(alpha=1e-4), Loop())
    answers = regressor.adapt(Examples(made.support.x, y))(made.query.x)
    torch.testing.assert_close(answers, made.query.x[..., :1] * 3, atol=1e-2, rtol=0)


def test_nothing_is_meta_trained() -> None:
    made = learner()
    made.meta_loss(tasks()).loss.backward()
    assert [p.grad.item() for p in made.parameters() if p.grad is not None] == [0.0]
    assert not made.learns


def test_an_estimator_without_probabilities_is_refused() -> None:
    with pytest.raises(UserError, match=r"LinearSVC predicts no probabilities"):
        learner(LinearSVC)


def test_a_refusal_names_estimator_and_task() -> None:
    made = tasks()
    with pytest.raises(UserError, match=r"KNeighborsClassifier refuses the task numbered 0: .*n_neighbors"):
        learner(lambda: KNeighborsClassifier(30)).adapt(made.support)(made.query.x)


def test_tasks_at_once_are_refused() -> None:
    with pytest.raises(UserError, match=r"Vmap cannot run an estimator .*take algorithm/over_tasks=loop"):
        Estimator(Cells((5,), None), CrossEntropy(), 4, LogisticRegression, Vmap())


def test_a_head_is_refused() -> None:
    with pytest.raises(UserError, match=r"model=cells has no head"):
        Cells((5,), 3)
