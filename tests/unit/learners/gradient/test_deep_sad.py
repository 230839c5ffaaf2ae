"""Deep SAD by the five choices: the centre, the inner loss, and what inner steps do."""

import pytest
import torch
from torch import nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import Eager
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.inner.head_init import CENTER, Center
from metaloop.inner.meta_gradients.meta_gradient import Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import Pattern
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.support_loss import MeanLoss
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import BalancedLogistic, DeepSAD
from metaloop.types import Examples, Tasks


def learner(over_tasks: Loop | Vmap, model: nn.Module | None = None, rate: float = 0.01) -> GradientLearner:
    torch.manual_seed(0)
    model = model or MLP((4,), 1, [8, 6], bias=False, head="distance")
    pattern, loss = Pattern(r"^layers\.|^head\.center$"), MeanLoss(of=DeepSAD(eta=2.0))
    return GradientLearner(
        model, BalancedLogistic(), pattern, lambda start: GradientDescent(start, lr=rate), Unrolled(), LastStep(), Center(),
        over_tasks, 3, support_loss=loss,
    ).double()  # fmt: skip


def tasks() -> Tasks:
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 30, 4, generator=random).double(), torch.zeros(2, 30, 1).double()
    y[:, 12:18], mask = 1.0, torch.ones(2, 15, dtype=torch.bool)
    mask[0, 13:] = False
    return Tasks(Examples(x[:, :15], y[:, :15], mask), Examples(x[:, 15:], y[:, 15:]), torch.arange(2))


def test_a_task_starts_with_the_mean_feature_of_its_inliers_and_keeps_it() -> None:
    made, given = learner(Loop()), tasks()
    support = given.support.map(lambda tensor: tensor[0])
    start = made.task.start(made.values(), support)
    assert isinstance(support.x, torch.Tensor)
    features = support.x[:12]
    for layer in made.model.layers:  # type: ignore[union-attr]
        features = torch.relu(layer(features))
    torch.testing.assert_close(start[CENTER][0], features.mean(0).detach())
    adapted = made.adapt(given.support).adapted
    assert adapted is not None
    torch.testing.assert_close(adapted[CENTER][0], start[CENTER])
    assert not torch.allclose(adapted["layers.0.weight"][0], start["layers.0.weight"])


def test_inner_steps_descend_the_loss_of_deep_sad() -> None:
    made, given = learner(Loop(), rate=1e-4), tasks()
    support = given.support.map(lambda tensor: tensor[1])
    meta = made.values()
    losses = [
        made.task.support_loss(meta, at, support, 0).item()
        for at in made.problem.iterates(meta, support, 5, Eager(), second_order=False)
    ]
    assert losses == sorted(losses, reverse=True)
    outputs = made.task.model.outputs(meta, made.task.start(meta, support), support.x, support.mask)
    squares, y = outputs.exp()[:, 0], support.y[:, 0]
    expected = torch.where(y > 0.5, 2.0 / squares, squares).mean()
    assert losses[0] == pytest.approx(expected.item())


def test_tasks_together_have_the_meta_gradient_of_tasks_one_by_one() -> None:
    gradients = []
    for over_tasks in (Loop(), Vmap()):
        made = learner(over_tasks)
        made.meta_loss(tasks()).loss.backward()
        gradients.append([parameter.grad for parameter in made.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_head_without_a_centre_is_refused() -> None:
    with pytest.raises(UserError, match=r"algorithm/head_init=center needs a head of distances.*take model=sphere"):
        learner(Loop(), MLP((4,), 1, [8]))
    with pytest.raises(UserError, match=r"model.head='round': one of linear, distance"):
        MLP((4,), 1, [8], head="round")
