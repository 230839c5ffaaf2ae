"""Memories: reading at once is reading step by step, and nothing is known of later steps."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from metaloop.control.attention import CausalTransformer, turned
from metaloop.control.memories import GRU, TrialMemory
from metaloop.errors import UserError

MEMORIES = {"gru": partial(GRU, hidden=8), "transformer": partial(CausalTransformer, hidden=16, layers=2, heads=2)}
each_memory = pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)


def made(memory: Callable[..., TrialMemory]) -> TrialMemory:
    torch.manual_seed(0)
    return memory(inputs=3).double()


@each_memory
def test_reading_at_once_gives_the_numbers_of_reading_step_by_step(memory: Callable[..., TrialMemory]) -> None:
    """Over 70 steps, for which a cache is enlarged twice."""
    network, x = made(memory), torch.randn(70, 4, 3).double()
    state, steps = network.start(4, x), []
    with torch.no_grad():
        for each in x:
            features, state = network.step(each, state)
            steps.append(features)
        assert torch.allclose(torch.stack(steps), network.sequence(x), atol=1e-12)
    assert steps[0].shape == (4, network.features)


@each_memory
def test_a_step_depends_on_all_steps_before_and_on_none_after(memory: Callable[..., TrialMemory]) -> None:
    network, x = made(memory), torch.randn(6, 1, 3).double().requires_grad_()
    (gradient,) = torch.autograd.grad(network.sequence(x)[3, :, 0].sum(), x)
    depends = (gradient != 0).all(-1)[:, 0].tolist()
    assert depends == [True, True, True, True, False, False]


def test_positions_turn_vectors_so_that_products_depend_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 8).double()
    products = [(turned(x, first) * turned(y, first + 3)).sum() for first in (0, 5, 70)]
    assert torch.allclose(products[0], products[1])
    assert torch.allclose(products[0], products[2])
    assert not torch.allclose(products[0], (turned(x, 0) * turned(y, 4)).sum())
    assert torch.equal(turned(x, 9)[..., 4:], x[..., 4:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 12}, r"algorithm\.memory\.hidden=12: a multiple of 4 \* algorithm\.memory\.heads=8"),
        ({"layers": 0}, r"algorithm\.memory\.layers=0: at least 1"),
        ({"heads": 0}, r"algorithm\.memory\.heads=0: at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CausalTransformer(inputs=3, **({"hidden": 16, "layers": 1, "heads": 2} | settings))
