"""Losses of one task: masks, shapes, and classes that are absent."""

import re

import pytest
import torch
import torch.nn.functional as F

from metaloop.errors import UserError
from metaloop.problems.task_loss import (
    CrossEntropy,
    MeanSquaredError,
    NegativeLogLikelihood,
    TaskLoss,
    restricted,
    without_absent_classes,
)
from metaloop.types import Examples


def test_losses_are_means_over_real_examples() -> None:
    outputs, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    mask = torch.tensor([True, True, False, True])
    assert CrossEntropy()(outputs, Examples(outputs, y, None, 3)) == F.cross_entropy(outputs, y)
    torch.testing.assert_close(CrossEntropy()(outputs, Examples(outputs, y, mask, 3)), F.cross_entropy(outputs[mask], y[mask]))
    target = torch.randn(4, 3)
    torch.testing.assert_close(
        MeanSquaredError()(outputs, Examples(outputs, target, mask)), F.mse_loss(outputs[mask], target[mask])
    )
    assert CrossEntropy()(outputs, Examples(outputs, y, torch.zeros(4, dtype=torch.bool), 3)) == 0


def test_absent_classes_are_masked_and_values_pass() -> None:
    logits, y = torch.randn(2, 3), torch.tensor([0, 1])
    assert torch.equal(without_absent_classes(logits, Examples(logits, y, None, 3)), logits)
    found = without_absent_classes(logits, Examples(logits, y, torch.tensor([True, False]), 3))
    assert torch.equal(found[:, 0], logits[:, 0])
    assert (found[:, 1:] <= logits[:, :1] - 1e4).all()
    values = Examples(logits, logits, torch.tensor([True, False]))
    assert without_absent_classes(logits, values) is logits


@pytest.mark.parametrize(("loss", "shape"), [(MeanSquaredError(), (3, 1)), (NegativeLogLikelihood(), (3, 1, 2))])
def test_answers_are_not_broadcast_to_targets(loss: TaskLoss, shape: tuple[int, ...]) -> None:
    values, target = torch.rand(shape) + 0.1, torch.randn(3)
    assert loss(values, Examples(target, target[:, None])).isfinite()
    wanted = r"\(3,\)" if len(shape) == 2 else r"\(3, 2\)"
    with pytest.raises(UserError, match=rf"outputs have the shape {re.escape(str(shape))}, .* need {wanted}"):
        loss(values, Examples(target, target))


@pytest.mark.parametrize("size", [1.0, 1e5, 1e12, 1e37])
def test_what_is_not_present_wins_nowhere(size: float) -> None:
    logits = torch.tensor([[-3.0, 1.0, -2.0], [-2.0, -1.0, 3.0], [-1.0, -2.0, -3.0]]) * size
    present = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    shares = restricted(logits, present).softmax(-1)
    assert (shares.argmax(-1) == torch.tensor([1, 0, 0])).all()
    assert (shares[:2][~present[:2]] == 0).all()
    torch.testing.assert_close(shares[2], torch.full((3,), 1 / 3))
    assert restricted(logits, present).isfinite().all()
    assert restricted(logits.clamp(-6e4, 6e4).half(), present).isfinite().all()
    torch.testing.assert_close(torch.func.vmap(restricted)(logits, present), restricted(logits, present))


def test_what_is_not_present_has_no_derivative() -> None:
    present = torch.tensor([True, False, True])
    logits = torch.tensor([[-3e4, 1.0, -3e4 + 1], [2.0, 1.0, -3.0]], dtype=torch.float64, requires_grad=True)

    def value(logits: torch.Tensor) -> torch.Tensor:
        return restricted(logits, present).log_softmax(-1)[:, present]

    assert torch.autograd.gradcheck(value, logits)
    assert torch.autograd.gradgradcheck(value, logits)
    (found,) = torch.autograd.grad(value(logits)[:, 0].sum(), logits)
    (expected,) = torch.autograd.grad(logits[:, present].log_softmax(-1)[:, 0].sum(), logits)
    torch.testing.assert_close(found, expected)
