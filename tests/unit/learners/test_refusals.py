"""Errors of torch become errors that name the fix. They are raised by torch itself, so that a new wording is noticed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from metaloop.errors import UserError
from metaloop.learners.refusals import errors_name_the_fix


def twice(network: Callable[[Tensor], Tensor], *shape: int) -> None:
    x = torch.randn(*shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()


def over_tasks(network: Callable[[Tensor], Tensor], *shape: int) -> None:
    vmap(network)(torch.randn(*shape))


def undone_in_place(x: Tensor) -> Tensor:
    y = x.exp()
    z = y * 2
    y.add_(1)
    return z + y


CASES = {
    "fused attention": (lambda: twice(lambda x: F.scaled_dot_product_attention(x, x, x), 1, 2, 4, 8), "eager attention"),
    "no second derivative": (lambda: twice(lambda x: F.pdist(x), 4, 3), "algorithm/meta_gradient=first_order"),
    "in place": (lambda: twice(undone_in_place, 3), "let it make new ones"),
    "a decision": (lambda: over_tasks(lambda x: x if x.sum() > 0 else -x, 3, 2), "algorithm/over_tasks=loop"),
    "a number": (lambda: over_tasks(lambda x: x * x.sum().item(), 3, 2), "algorithm/over_tasks=loop"),
    "a shape": (lambda: over_tasks(lambda x: x[x > 0], 3, 2), "algorithm/over_tasks=loop"),
    "random numbers": (lambda: over_tasks(lambda x: F.dropout(x, 0.5), 3, 2), "algorithm/over_tasks=loop"),
    "no batching rule": (lambda: over_tasks(lambda x: nn.LSTM(3, 4)(x)[0], 2, 5, 1, 3), "algorithm/over_tasks=loop"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_error_names_the_choice_that_avoids_it(name: str) -> None:
    run, fix = CASES[name]
    with pytest.raises(UserError, match=fix), errors_name_the_fix():
        run()


def test_other_errors_are_passed_on() -> None:
    with pytest.raises(RuntimeError, match="mat1") as raised, errors_name_the_fix():
        nn.Linear(2, 3)(torch.zeros(1, 5))
    assert not isinstance(raised.value, UserError)
