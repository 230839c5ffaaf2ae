"""What is checked of a network before training."""

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import odd_nets
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradients.meta_gradient import Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.network_check import check_network
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Tasks


class Random(odd_nets.Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x))


class Centered(odd_nets.Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


REFUSED: list[tuple[Callable[..., nn.Module], str]] = [
    (odd_nets.Counting, "changes its buffer calls"),
    (odd_nets.AnswersDict, "returns a dict with the keys logits; it must return one tensor"),
    (odd_nets.AnswersColumns, r"returns the shape \(6, 3, 1\) for 6 examples of 3 classes; it must return \(6, 3\)"),
    (lambda shape, outputs: odd_nets.Net(shape, outputs - 1), r"returns the shape \(6, 2\)"),
    (odd_nets.Unregistered, r"shape \(8, 8\).*does not register"),
    (odd_nets.Checkpointed, "other gradients than with its own"),
    (Random, "answer the same examples differently"),
    (Centered, "differently beside others than alone"),
]
ACCEPTED = [
    odd_nets.Net,
    odd_nets.TwoPaths,
    odd_nets.Listed,
    odd_nets.Twice,
    odd_nets.Tied,
    odd_nets.TiedHead,
    odd_nets.WithBuffer,
    odd_nets.Recurrent,
    lambda *sizes: odd_nets.Net(*sizes, middle=lambda: nn.Dropout(0.5)),
    lambda *sizes: odd_nets.Net(*sizes, middle=lambda: nn.BatchNorm1d(odd_nets.WIDTH)),
]


def made_tasks() -> Tasks:
    def examples() -> Examples:
        return Examples(torch.randn(2, 6, 4), torch.arange(6).repeat(2, 1) // 2, None, 3)

    return Tasks(examples(), examples(), torch.arange(2))


def learner(make: Callable[..., nn.Module]) -> GradientLearner:
    parts = All(), functools.partial(GradientDescent, lr=0.1), Unrolled(), LastStep(), Learned(), Loop()
    return GradientLearner(make((4,), 3), CrossEntropy(), *parts, steps=1)


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:20] for _, message in REFUSED])
def test_A7_a_network_that_cannot_be_a_function_of_its_parameters_is_refused(
    make: Callable[..., nn.Module], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_network(learner(make), made_tasks())


@pytest.mark.parametrize("make", ACCEPTED)
def test_the_check_leaves_no_trace(make: Callable[..., nn.Module]) -> None:
    made, tasks = learner(make), made_tasks()
    before, state = copy.deepcopy(made.state_dict()), torch.get_rng_state()
    check_network(made, tasks)
    assert torch.equal(state, torch.get_rng_state())
    assert made.training
    after = made.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if isinstance(before[name], Tensor))
