"""Masks over what the inner loop may change."""

from functools import partial

import pytest
import torch

from metaloop.errors import UserError
from metaloop.inner.rules.masked import SPREAD, Masked
from metaloop.inner.rules.optimizers import Adam
from metaloop.inner.rules.rule import GradientDescent
from metaloop.types import Params

LOSS = torch.tensor(0.0)
PLAIN = partial(GradientDescent, lr=0.1)


def params() -> Params:
    random = torch.Generator().manual_seed(0)
    return {"body.weight": torch.randn(3, 2, generator=random).double(), "head.bias": torch.randn(4, generator=random).double()}


def slope(at: Params) -> Params:
    """Of a function whose gradient depends on where it is taken."""
    return {name: value**3 + 1 for name, value in at.items()}


def walk(rule: Masked, steps: int = 3) -> Params:
    at = params()
    state = rule.init(at)
    for step in range(steps):
        at, state = rule.step(slope(at), state, at, step, LOSS)
    return at


def opened(rule: Masked) -> dict[str, torch.Tensor]:
    """Every other number shut."""
    with torch.no_grad():
        for score in rule.scores.values():
            score.view(-1)[::2] = -0.01
    return {name.replace("/", "."): score >= 0 for name, score in rule.scores.items()}


@pytest.mark.parametrize("inner", [PLAIN, partial(GradientDescent, lr=0.1, weight_decay=0.5), partial(Adam, lr=0.1)])
def test_what_is_shut_stays_and_the_rest_moves_as_without_a_mask(inner: object) -> None:
    rule = Masked(params(), inner)  # type: ignore[arg-type]
    free = walk(rule)
    masks = opened(rule)
    found = walk(rule)
    for name, mask in masks.items():
        assert torch.equal(found[name][~mask], params()[name][~mask])
        torch.testing.assert_close(found[name][mask], free[name][mask])
        assert (found[name] != params()[name])[mask].all()


def test_scores_learn_as_if_the_mask_were_continuous() -> None:
    rule = Masked(params(), PLAIN)
    masks = {name: mask.double() for name, mask in opened(rule).items()}

    def end(masks: Params) -> torch.Tensor:
        at = params()
        for _ in range(3):
            at = {name: value - 0.1 * masks[name] * slope(at)[name] for name, value in at.items()}
        return torch.stack([(value**2).sum() for value in at.values()]).sum()

    torch.stack([(value**2).sum() for value in walk(rule).values()]).sum().backward()
    for name, mask in masks.items():
        found = rule.scores[name.replace(".", "/")].grad
        for i in range(mask.numel()):
            moved = [
                {**masks, name: mask + size * (torch.arange(mask.numel()) == i).view(mask.shape)} for size in (1e-6, -1e-6)
            ]
            expected = (end(moved[0]) - end(moved[1])) / 2e-6
            torch.testing.assert_close(found.view(-1)[i], expected, rtol=1e-6, atol=1e-8)
        assert found.view(-1)[::2].abs().min() > 1e-3  # what is shut learns, too


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9, 1.0])
def test_about_the_share_that_is_asked_for_starts_open(density: float) -> None:
    torch.manual_seed(0)
    rule = Masked({"weight": torch.zeros(10000)}, PLAIN, density)
    score = rule.scores["weight"]
    assert (score >= 0).double().mean().item() == pytest.approx(density, abs=0.02)
    assert score.abs().max() <= SPREAD


@pytest.mark.parametrize("density", [0.0, -1.0, 1.1, float("nan")])
def test_other_shares_are_refused(density: float) -> None:
    with pytest.raises(UserError, match=r"algorithm\.rule\.density="):
        Masked(params(), PLAIN, density)
