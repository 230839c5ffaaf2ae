"""What the members of the inner loop compute and refuse."""

import pytest
import torch
from torch import nn

from metaloop.errors import UserError
from metaloop.inner.head_init import Zero
from metaloop.inner.objective import LastStep, WeightedSum
from metaloop.inner.rules.learned_rates import LearnedRate
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All, Body, Head, Pattern
from metaloop.models.mlp import MLP

PARAMS = {"body.weight": torch.ones(2, 2), "head.bias": torch.tensor([1.0, 2.0])}
LOSS = torch.tensor(1.0)
GRADIENTS = {"body.weight": torch.full((2, 2), 4.0), "head.bias": torch.tensor([0.0, -1.0])}


def test_gradient_descent_is_its_formula() -> None:
    after, state = GradientDescent(PARAMS, lr=0.5).step(GRADIENTS, {}, PARAMS, 0, LOSS)
    assert torch.equal(after["body.weight"], torch.full((2, 2), -1.0))
    assert torch.equal(after["head.bias"], torch.tensor([1.0, 2.5]))
    assert state == {}


def test_learned_rates_start_alike_and_act_each_on_its_own() -> None:
    for granularity, shape in (("tensor", ()), ("element", (2,))):
        rule = LearnedRate(PARAMS, lr=0.5, granularity=granularity)
        assert {name: rate.shape for name, rate in rule.rates.items()}["head/bias"] == shape
        after, _ = rule.step(GRADIENTS, {}, PARAMS, 0, LOSS)
        assert torch.equal(after["head.bias"], torch.tensor([1.0, 2.5]))
        with torch.no_grad():
            rule.rates["head/bias"].mul_(2)
        after, _ = rule.step(GRADIENTS, {}, PARAMS, 0, LOSS)
        assert torch.equal(after["head.bias"], torch.tensor([1.0, 3.0]))
        assert torch.equal(after["body.weight"], torch.full((2, 2), -1.0))


@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan")])
def test_rates_that_do_not_descend_are_refused(lr: float) -> None:
    with pytest.raises(UserError, match=r"algorithm\.rule\.lr="):
        GradientDescent(PARAMS, lr=lr)
    with pytest.raises(UserError, match=r"algorithm\.rule\.lr="):
        LearnedRate(PARAMS, lr=lr, granularity="tensor")


def test_rules_refuse_nothing_to_adapt_and_unknown_granularities() -> None:
    for rule in (lambda p: GradientDescent(p, lr=0.1), lambda p: LearnedRate(p, lr=0.1, granularity="tensor")):
        with pytest.raises(UserError, match=r"algorithm\.adapted"):
            rule({})
    with pytest.raises(UserError, match=r"granularity='layer': one of tensor, element"):
        LearnedRate(PARAMS, lr=0.1, granularity="layer")


def test_choices_of_parameters() -> None:
    model = MLP((3,), 2, hidden=[4, 4])
    body = ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")
    head = ("head.weight", "head.bias")
    assert All().names(model) == body + head
    assert Body().names(model) == body
    assert Head().names(model) == head
    assert Pattern(r"1\.weight|^head\.b").names(model) == ("layers.1.weight", "head.bias")


def test_frozen_parameters_never_adapt() -> None:
    model = MLP((3,), 2, hidden=[4])
    model.layers.requires_grad_(False)
    assert All().names(model) == ("head.weight", "head.bias")
    with pytest.raises(UserError, match=r"algorithm\.adapted .* matches no parameter .* has head\.weight"):
        Body().names(model)


def test_choices_that_match_nothing_or_are_no_pattern_are_refused() -> None:
    headless = MLP((3,), None, hidden=[4])
    for adapted, said in ((Head(), "head"), (Pattern("norm"), "norm")):
        with pytest.raises(UserError, match=rf"\(names with .*{said}.*\) matches no parameter .* has layers\.0\.weight"):
            adapted.names(headless)
    with pytest.raises(UserError, match=r"pattern='\(' is not a regular expression"):
        Pattern("(")
    assert All().names(nn.Linear(1, 1)) == ("weight", "bias")


def test_a_zero_head_that_does_not_adapt_is_refused() -> None:
    Zero().check(PARAMS)
    with pytest.raises(UserError, match=r"algorithm\.head_init=zero needs a head that adapts"):
        Zero().check({"body.weight": PARAMS["body.weight"]})


def test_weights_of_objectives() -> None:
    assert LastStep().weights(3, 0) == (0, 0, 0, 1)
    assert WeightedSum().weights(4, 0) == (0, 0.25, 0.25, 0.25, 0.25)
    assert WeightedSum([1, 3]).weights(2, 0) == (0, 0.25, 0.75)
    with pytest.raises(UserError, match=r"2 numbers for algorithm\.steps=3"):
        WeightedSum([1, 3]).weights(3, 0)


@pytest.mark.parametrize("wrong", [[], [0.0, 0.0], [1.0, -1.0]])
def test_weights_that_are_no_mean_are_refused(wrong: list[float]) -> None:
    with pytest.raises(UserError, match="step_weights"):
        WeightedSum(wrong)
