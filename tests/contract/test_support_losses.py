"""The contracts of support losses and augmentations, with exact meta-gradients of learned ones."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from made_tasks import along, central_difference, distance, made_model, made_tasks, meta_gradient, random_direction
from members import AUGMENTATIONS, EXACT, SUPPORT_LOSSES, gradient_learner

from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.gradient.augmentation import SupportAugmentation
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.support_loss import SupportLoss
from metaloop.types import Examples

LOSSES = torch.tensor([0.0, 0.3, 1.7, 4.0, 9.0], dtype=torch.float64)


def moved(member: SupportLoss | SupportAugmentation) -> SupportLoss | SupportAugmentation:
    """Build a member in float64, with parameters moved from their initial values."""
    random = torch.Generator().manual_seed(4)
    made = member.double()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=random, dtype=value.dtype))
    return made


@pytest.mark.parametrize("name", SUPPORT_LOSSES)
def test_what_is_not_real_does_not_count_and_a_greater_loss_is_greater(name: str) -> None:
    loss = moved(SUPPORT_LOSSES[name]())
    mask = torch.tensor([True, True, True, False, False])
    torch.testing.assert_close(loss(LOSSES, mask), loss(LOSSES[:3], None))
    assert loss(LOSSES, torch.ones_like(mask)) == loss(LOSSES, None)
    assert loss(LOSSES + 0.1, None) > loss(LOSSES, None)
    assert loss(torch.zeros(3, dtype=torch.float64), None) == 0


@pytest.mark.parametrize("name", SUPPORT_LOSSES)
def test_it_starts_as_the_mean(name: str) -> None:
    losses = LOSSES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(SUPPORT_LOSSES[name]().double()(losses, None), losses)
    torch.testing.assert_close(gradient, torch.full_like(LOSSES, 0.2))


def image_examples() -> Examples:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(6, 1, 4, 4, generator=random, dtype=torch.float64)
    return Examples(x, torch.zeros(6, dtype=torch.int64), number=torch.tensor(5))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_is_pure_and_keeps_shape_and_type(name: str) -> None:
    augmentation, support = moved(AUGMENTATIONS[name]()), image_examples()
    before = support.x.clone()
    first, again = augmentation(support, 1), augmentation(support, 1)
    assert torch.equal(first, again)
    assert torch.equal(support.x, before)
    assert first.shape == before.shape
    assert first.dtype == before.dtype
    random = any(True for _ in augmentation.parameters())
    assert torch.equal(first, augmentation(support, 2)) is not random
    assert torch.equal(first, augmentation(replace(support, number=torch.tensor(6)), 1)) is not random


CASES = [pytest.param(s, a, id=f"{s}, {a}") for s, a in product(SUPPORT_LOSSES, AUGMENTATIONS) if (s, a) != ("mean", "none")]


@pytest.mark.parametrize("masked", [False, True], ids=["all real", "masked"])
@pytest.mark.parametrize(("support_loss", "augmentation"), CASES)
def test_meta_gradients_equal_finite_differences_and_each_other(support_loss: str, augmentation: str, masked: bool) -> None:
    tasks = made_tasks("mlp", tasks=2, masked=masked)

    def make(over_tasks: OverTasks, name: str) -> GradientLearner:
        return gradient_learner(
            made_model("mlp", norm="support"),
            over_tasks,
            meta_gradient=EXACT[name],
            inner_batch=4,
            support_loss=moved(SUPPORT_LOSSES[support_loss]()),
            augmentation=moved(AUGMENTATIONS[augmentation]()),
        )

    learner = make(Loop(), "unrolled")
    parameters = dict(learner.named_parameters())
    learned = {n: p for n, p in parameters.items() if n.startswith(("support_loss.", "augmentation."))}
    assert learned
    _, reference = meta_gradient(learner, tasks)
    for part in (learned, parameters):
        direction = random_direction(part, seed=1)

        def value() -> float:
            with torch.no_grad():
                return learner.meta_loss(tasks).loss.item()

        found = [central_difference(value, part, direction, size) for size in (1e-5, 1e-6, 1e-7)]
        expected = along({n: reference[n] for n in part}, direction)
        assert min(abs(each - expected) for each in found) < 1e-6 * abs(expected), (found, expected)
    for over_tasks, name in product((Loop(), Vmap()), EXACT):
        _, gradient = meta_gradient(make(over_tasks, name), tasks)
        assert distance(gradient, reference) < 1e-9
