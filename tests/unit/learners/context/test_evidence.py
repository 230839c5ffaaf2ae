"""The scores of classical detectors that a reader of anomalies sees, against scikit-learn's."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.context.evidence import Detectors
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.background import BackgroundPrototypes
from metaloop.learners.context.readers.table import TableTransformer
from metaloop.learners.learner import Learner
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import BalancedLogistic, CrossEntropy
from metaloop.types import Examples, Tasks


def rows(anomalies: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Forty support rows and ten queries of three columns, their known values, labels, and which support rows are real."""
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, real = torch.zeros(40, 1, dtype=torch.float64), torch.ones(40, dtype=torch.bool)
    labels[:anomalies] = 1.0
    real[-3:] = False
    return values, torch.ones_like(values), labels, real


def test_neighbour_distances_are_scikit_learns_without_the_row_itself() -> None:
    values, known, labels, real = rows(4)
    found = Detectors()(values, known, labels, real)
    inliers = values[4:37].numpy()
    index = NearestNeighbors(n_neighbors=9).fit(inliers)
    own = np.log(index.kneighbors(inliers)[0][:, 8] / 3**0.5 + 0.01)  # the eighth beside itself
    new = np.log(index.kneighbors(values[40:].numpy())[0][:, 7] / 3**0.5 + 0.01)
    np.testing.assert_allclose(found[40:, 3], np.clip((new - own.mean()) / own.std(), -10, 10), rtol=1e-6)


def test_padding_and_the_order_of_rows_change_nothing() -> None:
    values, known, labels, real = rows(4)
    found = Detectors()(values, known, labels, real)
    assert found.shape == (50, Detectors().size(1))
    assert bool(found.isfinite().all())
    without = torch.cat([torch.arange(37), torch.arange(40, 50)])
    torch.testing.assert_close(Detectors()(values[without], known[without], labels[:37], real[:37])[37:], found[40:])
    order = torch.cat([torch.randperm(40), torch.arange(40, 50)])
    torch.testing.assert_close(Detectors()(values[order], known[order], labels[order[:40]], real[order[:40]])[40:], found[40:])


def test_without_labelled_anomalies_their_columns_are_zero() -> None:
    found = Detectors()(*rows(0))
    standard, rank = found[:, :-2].chunk(2, 1)
    assert not standard[:, Detectors.unlabelled :].any()
    assert not rank[:, Detectors.unlabelled :].any()
    assert bool(standard[:, : Detectors.unlabelled].any(0).all())


@pytest.mark.parametrize("inliers", [1, 2, 5])
def test_few_inliers_and_equal_rows_give_finite_numbers(inliers: int) -> None:
    values = torch.zeros(inliers + 2, 4)
    values[-1] = 7.0
    found = Detectors()(values, torch.ones_like(values), torch.zeros(inliers, 1), torch.ones(inliers, dtype=torch.bool))
    assert bool(found.isfinite().all())


def learner(kind: str) -> Learner:
    torch.manual_seed(0)
    readers: dict[str, Callable[..., Reader]] = {
        "detection": partial(TableTransformer, width=8, layers=2, heads=2, evidence=Detectors()),
        "background": partial(BackgroundPrototypes, distance=3.0, scale=1.0),
    }
    model = Cells((2, 3), None) if kind == "detection" else MLP((2, 3), None, [8])
    return InContext(model, BalancedLogistic(), 1, readers[kind], Loop(), gaussian=False).double()


def tasks(anomalies: int = 3) -> Tasks:
    random = torch.Generator().manual_seed(1)
    x = torch.stack([torch.randn(2, 40, 3, generator=random), torch.ones(2, 40, 3)], 2).double()
    y, mask = torch.zeros(2, 40, 1, dtype=torch.float64), torch.ones(2, 25, dtype=torch.bool)
    y[:, 25 - anomalies : 28], mask[:, :2] = 1.0, False
    return Tasks(Examples(x[:, :25], y[:, :25], mask), Examples(x[:, 25:], y[:, 25:]), torch.arange(2))


@pytest.mark.parametrize("anomalies", [0, 3])
@pytest.mark.parametrize("kind", ["detection", "background"])
def test_the_meta_gradient_equals_finite_differences(kind: str, anomalies: int) -> None:
    made, given = learner(kind).train(), tasks(anomalies)
    made.meta_loss(given).loss.backward()
    for parameter in made.parameters():
        gradient, flat = parameter.grad, parameter.data.view(-1)
        assert gradient is not None
        start, changed = flat[0].clone(), []
        for step in (1e-6, -1e-6):
            flat[0] = start + step
            changed.append(made.meta_loss(given).loss.item())
        flat[0] = start
        assert gradient.view(-1)[0].item() == pytest.approx((changed[0] - changed[1]) / 2e-6, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("kind", ["detection", "background"])
def test_padding_is_not_read(kind: str) -> None:
    made, given = learner(kind).eval(), tasks()
    answers = made.adapt(given.support)(given.query.x)
    assert isinstance(given.support.x, torch.Tensor)
    x = given.support.x.clone()
    x[:, :2] = 100.0
    torch.testing.assert_close(made.adapt(Examples(x, given.support.y, given.support.mask))(given.query.x), answers)


def test_background_prototypes_are_the_log_odds_of_their_mixture() -> None:
    reader = BackgroundPrototypes(2, 1, 1, distance=3.0, scale=0.5).double()
    support = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [4, 4]]).double()
    labels, real = torch.tensor([[0.0], [0], [0], [0], [1]]).double(), torch.ones(5, dtype=torch.bool)
    query = torch.tensor([[3.0, 0.0]]).double()  # the mean is 0, and so is the unit 1
    expected = np.log(np.exp(-0.5 * 3.0) + np.exp(-0.5 * 17.0)) + 0.5 * 9.0
    assert reader(support, labels, real, query, None).item() == pytest.approx(expected)
    made = partial(BackgroundPrototypes, distance=1.0, scale=1.0)
    with pytest.raises(UserError, match="algorithm/reader=background scores anomalies"):
        InContext(MLP((2,), None, [4]), CrossEntropy(), 2, made, Loop(), gaussian=False).check(2)
