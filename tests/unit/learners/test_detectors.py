"""Anomaly detectors as learners: they see the inliers alone, or inliers against labelled anomalies."""

import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.detectors import NearestNeighbourDistance, ReconstructionError, pyod_detector
from metaloop.learners.estimator import Estimator
from metaloop.models.cells import Cells
from metaloop.problems.task_loss import BalancedLogistic
from metaloop.types import Examples


def task(labelled: int = 0) -> tuple[Examples, torch.Tensor, np.ndarray]:
    """Thirty inliers, some labelled anomalies, two padded rows; ten queries; the inliers as an array."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32 + labelled, 3, generator=random)
    y, mask = torch.zeros(1, 32 + labelled, 1), torch.ones(1, 32 + labelled, dtype=torch.bool)
    y[:, 32:], mask[:, :2] = 1.0, False
    x[:, 32:] += 3.0
    return Examples(x, y, mask, number=torch.tensor([5])), torch.randn(1, 10, 3, generator=random), x[0, 2:32].numpy()


def answers(estimator: Callable[[], Any], support: Examples, query: torch.Tensor) -> np.ndarray:
    learner = Estimator(Cells((3,), None), BalancedLogistic(), 1, estimator, Loop())
    answer: torch.Tensor = learner.adapt(support)(query)
    assert answer.shape == (1, 10, 1)
    return answer[0, :, 0].numpy()


@pytest.mark.parametrize("labelled", [0, 4])
@pytest.mark.parametrize(
    "estimator",
    [partial(IsolationForest, random_state=5), partial(LocalOutlierFactor, novelty=True), OneClassSVM],
    ids=["isolation forest", "local outlier factor", "one-class SVM"],
)
def test_a_detector_of_scikit_learn_is_fitted_to_the_inliers_alone(estimator: Callable[[], Any], labelled: int) -> None:
    support, query, inliers = task(labelled)
    expected = -estimator().fit(inliers).score_samples(query[0].numpy())
    np.testing.assert_allclose(answers(estimator, support, query), expected, rtol=1e-5)


def test_neighbour_distances_and_reconstruction_errors_are_those_of_scikit_learn() -> None:
    support, query, inliers = task()
    distances = NearestNeighbors(n_neighbors=4).fit(inliers).kneighbors(query[0].numpy())[0][:, -1]
    np.testing.assert_allclose(answers(partial(NearestNeighbourDistance, 4), support, query), distances, rtol=1e-5)
    pca = PCA(0.8).fit(inliers)
    rest = query[0].numpy() - pca.inverse_transform(pca.transform(query[0].numpy()))
    np.testing.assert_allclose(
        answers(partial(ReconstructionError, 0.8), support, query), (rest**2).sum(1), rtol=1e-3, atol=1e-5
    )


def test_a_classifier_learns_the_labelled_anomalies_and_nothing_without_them() -> None:
    support, query, inliers = task(6)
    x = np.concatenate([inliers, support.x[0, 32:].numpy()])  # type: ignore[index]
    fitted = LogisticRegression().fit(x, np.repeat([0, 1], [30, 6]))
    np.testing.assert_allclose(answers(LogisticRegression, support, query), fitted.decision_function(query[0]), rtol=1e-3)
    assert (answers(RandomForestClassifier, *task()[:2]) == 0).all()


def test_columns_without_variation_are_left_out() -> None:
    support, query, inliers = task()
    wide = Examples(torch.cat([support.x, torch.ones(1, 32, 2)], 2), support.y, support.mask, number=support.number)  # type: ignore[list-item]
    learner = Estimator(Cells((5,), None), BalancedLogistic(), 1, OneClassSVM, Loop())
    found = learner.adapt(wide)(torch.cat([query, torch.ones(1, 10, 2)], 2))[0, :, 0]
    np.testing.assert_allclose(found, -OneClassSVM().fit(inliers).score_samples(query[0].numpy()), rtol=1e-5)


def test_what_gives_no_scores_is_refused() -> None:
    with pytest.raises(UserError, match=r"StandardScaler gives no scores.*algorithm/estimator=isolation_forest"):
        Estimator(Cells((3,), None), BalancedLogistic(), 1, StandardScaler, Loop())
    with pytest.raises(UserError, match="neighbours=0"):
        NearestNeighbourDistance(0)
    with pytest.raises(UserError, match="share=1"):
        ReconstructionError(1)


class Mean:
    """What a detector of PyOD looks like: high decisions are anomalies."""

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def fit(self, x: np.ndarray) -> None:
        self.mean = x.mean(0)

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x - self.mean).sum(1) ** self.power

    def get_params(self) -> dict[str, float]:
        return {"power": self.power}


@pytest.fixture
def pyod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for PyOD with one detector, in the layout of its package."""
    (tmp_path / "far_off.py").touch()
    models, module = types.ModuleType("pyod.models"), types.ModuleType("pyod.models.far_off")
    models.__path__ = [str(tmp_path)]
    module.FarOff = Mean  # type: ignore[attr-defined]
    for name, each in (("pyod", types.ModuleType("pyod")), ("pyod.models", models), ("pyod.models.far_off", module)):
        monkeypatch.setitem(sys.modules, name, each)


@pytest.mark.usefixtures("pyod")
def test_a_detector_of_pyod_is_found_by_name() -> None:
    support, query, inliers = task(2)
    expected = np.abs(query[0].numpy() - inliers.mean(0)).sum(1) ** 2
    np.testing.assert_allclose(answers(partial(pyod_detector, "FarOff", {"power": 2.0}), support, query), expected, rtol=1e-4)
    with pytest.raises(UserError, match=r"name='FarOut': PyOD has no such detector; did you mean .*faroff"):
        pyod_detector("FarOut", {})
    with pytest.raises(UserError, match=r"PyOD's FarOff cannot be made with {'poower': 1}"):
        pyod_detector("FarOff", {"poower": 1})


def test_without_pyod_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyod.models", None)
    with pytest.raises(UserError, match=r"pip install 'metaloop\[pyod\]'"):
        pyod_detector("ECOD", {})
