"""What kernel regressions say about the classes, against a fit to all other rows by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.kernel_evidence import KernelShares
from metaloop.learners.context.readers.table import TableTransformer
from metaloop.models.cells import Cells
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Tasks

COUNT, ROWS, QUERIES, WAYS = KernelShares.answers, 30, 7, 3


def given(padded: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values (rows, columns), where they are known, one-hot classes and which support rows are real; the last are not."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(ROWS + QUERIES, 4, generator=random, dtype=torch.float64)
    classes = torch.randint(WAYS, (ROWS,), generator=random)
    labels = torch.nn.functional.one_hot(classes, WAYS).double()
    real = torch.arange(ROWS) < ROWS - padded
    return values, torch.ones_like(values), labels * real[:, None], real


def test_a_share_is_that_of_a_ridge_regression_on_the_other_rows() -> None:
    values, known, labels, real = given()
    logs = KernelShares()(values, known, labels, real)[:, : COUNT * WAYS].reshape(-1, WAYS, COUNT)[..., : COUNT // 2]
    base = (labels.sum(0) + 0.5) / (ROWS + 1)
    kernel = torch.exp(-(values[:, None] - values[None, :ROWS]).abs().sum(2) / (2 * 4**0.5))  # values, of both ridges
    for place, ridge in ((6, 0.15), (7, 2.0)):
        for row in (0, ROWS - 1, ROWS + 3):
            others = np.array([other for other in range(ROWS) if other != row])
            square = kernel[others][:, others] + ridge * torch.eye(len(others))
            share = base + kernel[row, others] @ torch.linalg.solve(square, (labels - base)[others])
            smooth = (0.02 * torch.nn.functional.softplus(share.clamp(-0.1, 1.5) / 0.02)).log()
            torch.testing.assert_close(logs[row, :, place], smooth / 2)


def test_padding_and_the_order_of_rows_change_nothing_and_classes_are_treated_alike() -> None:
    values, known, labels, real = given(padded=4)
    found = KernelShares()(values, known, labels, real)
    assert found.shape == (ROWS + QUERIES, KernelShares().size(WAYS))
    assert bool(found.isfinite().all())
    without = torch.cat([torch.arange(ROWS - 4), torch.arange(ROWS, ROWS + QUERIES)])
    shorter = KernelShares()(values[without], known[without], labels[: ROWS - 4], real[: ROWS - 4])
    torch.testing.assert_close(shorter[ROWS - 4 :], found[ROWS:])
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([order, torch.arange(ROWS, ROWS + QUERIES)])
    torch.testing.assert_close(KernelShares()(values[rows], known[rows], labels[order], real[order]), found[rows])
    classes = torch.tensor([2, 0, 1])
    permuted = KernelShares()(values, known, labels[:, classes], real)
    about = (each[:, : COUNT * WAYS].reshape(-1, WAYS, COUNT) for each in (permuted, found))
    torch.testing.assert_close(next(about), next(about)[:, classes])


def test_of_many_rows_some_are_fitted() -> None:
    values, known, labels, real = given()
    few = KernelShares(most=10)(values, known, labels, real)
    chosen = torch.cat([torch.arange(0, ROWS, 3), torch.arange(ROWS, ROWS + QUERIES)])
    # Ranks and class shares are those of all rows, so only the numbers about kernels of values agree.
    assert few.shape == (ROWS + QUERIES, KernelShares().size(WAYS))
    assert bool(few.isfinite().all())
    assert not torch.allclose(few[chosen], KernelShares()(values, known, labels, real)[chosen])


@pytest.mark.parametrize("rows", [1, 2])
def test_few_and_equal_rows_give_finite_numbers(rows: int) -> None:
    values = torch.zeros(rows + 2, 4)
    labels = torch.nn.functional.one_hot(torch.zeros(rows, dtype=torch.long), 2).float()
    found = KernelShares()(values, torch.ones_like(values), labels, torch.ones(rows, dtype=torch.bool))
    assert bool(found.isfinite().all())


def learner(members: int = 1, *, evidence: bool = True) -> InContext:
    torch.manual_seed(0)
    reader = partial(
        TableTransformer, width=8, layers=2, heads=2, members=members, evidence=KernelShares() if evidence else None
    )
    return InContext(Cells((2, 4), None), CrossEntropy(), WAYS, reader, Loop(), gaussian=False).double()


def tasks() -> Tasks:
    values, known, labels, real = given(padded=4)
    x, y = torch.stack([values, known], 1)[None], labels.argmax(1)[None]
    return Tasks(Examples(x[:, :ROWS], y, real[None], WAYS), Examples(x[:, ROWS:], y[:, :QUERIES], None, WAYS), torch.arange(1))


def test_a_network_starts_with_the_answers_it_has_without_evidence() -> None:
    plain, made, task = learner(evidence=False), learner(), tasks()
    missing = made.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["reader.weigh.weight", "reader.weigh.bias", "reader.trust.weights.weight", "reader.trust.weights.bias"]
    answers = made.eval().adapt(task.support)(task.query.x)
    torch.testing.assert_close(answers, plain.eval().adapt(task.support)(task.query.x))


def test_members_permute_the_evidence_with_the_classes() -> None:
    # Where only the evidence speaks, a version with permuted classes gives the same probabilities.
    one, many, task = learner(), learner(members=4), tasks()
    for made in (one, many):
        for parameter in made.reader.parameters():
            parameter.data.zero_()
        made.reader.trust.weights.bias.data.copy_(torch.linspace(-1, 1, COUNT))
    answers = [made.eval().adapt(task.support)(task.query.x).softmax(-1) for made in (one, many)]
    torch.testing.assert_close(*answers)
    assert answers[0].std() > 0.05


def test_the_meta_gradient_equals_finite_differences_and_vmap_agrees() -> None:
    made, task = learner().train(), tasks()
    random = torch.Generator().manual_seed(2)
    for parameter in (made.reader.weigh.weight, made.reader.trust.weights.weight, made.reader.trust.weights.bias):
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    loss = made.meta_loss(task).loss
    loss.backward()
    for parameter in made.parameters():
        gradient, flat = parameter.grad, parameter.data.view(-1)
        assert gradient is not None
        start, changed = flat[0].clone(), []
        for step in (1e-6, -1e-6):
            flat[0] = start + step
            changed.append(made.meta_loss(task).loss.item())
        flat[0] = start
        assert gradient.view(-1)[0].item() == pytest.approx((changed[0] - changed[1]) / 2e-6, rel=1e-4, abs=1e-8)
    made.over_tasks = Vmap()
    assert made.meta_loss(task).loss.item() == pytest.approx(loss.item())
