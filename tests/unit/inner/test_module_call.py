"""Modules as functions of their parameters."""

import copy

import pytest
import torch
from torch import nn

from metaloop.inner.module_call import ModuleCall
from odd_nets import Listed, Net, Tied, TiedHead, Twice, TwoPaths, WithBuffer

NETS = [Net, TwoPaths, Listed, Twice, Tied, TiedHead, WithBuffer]


def drawn(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.randn_like(value) for name, value in net.named_parameters()}


@pytest.mark.parametrize("kind", NETS)
def test_A1_a_call_is_that_of_a_copy_with_these_parameters_and_leaves_the_module_as_it_was(kind: type[nn.Module]) -> None:
    net, x = kind((4,), 3), torch.randn(5, 4)
    own = {name: (value, value.detach().clone()) for name, value in net.named_parameters(remove_duplicate=False)}
    passed = drawn(net)
    answers = ModuleCall(net)(passed, (x,))

    twin = copy.deepcopy(net)
    with torch.no_grad():
        for name, value in twin.named_parameters():
            value.copy_(passed[name])
    assert torch.equal(answers, twin(x))
    for name, value in net.named_parameters(remove_duplicate=False):
        assert value is own[name][0]
        assert torch.equal(value, own[name][1])


@pytest.mark.parametrize("kind", NETS)
def test_A1_calls_under_vmap_are_those_of_a_loop(kind: type[nn.Module]) -> None:
    net, x = kind((4,), 3), torch.randn(5, 4)
    call, two = ModuleCall(net), [drawn(net), drawn(net)]
    stacked = {name: torch.stack([each[name] for each in two]) for name in two[0]}
    together = torch.func.vmap(lambda values: call(values, (x,)))(stacked)
    torch.testing.assert_close(together, torch.stack([call(each, (x,)) for each in two]))


def test_a_parameter_may_be_passed_by_any_of_its_names() -> None:
    net, x = TwoPaths((4,), 3), torch.randn(5, 4)
    weight = torch.randn_like(net.last.weight)
    answers = [ModuleCall(net)({name: weight}, (x,)) for name in ("last.weight", "head.weight", "net.2.weight")]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], net(x))


def test_A3_a_module_with_a_buffer_is_called_in_float64() -> None:
    net, x = WithBuffer((4,), 3), torch.randn(5, 4)
    double = {name: value.detach().double() for name, value in net.named_parameters()}
    answers = ModuleCall(net)(double, (x.double(),))
    assert answers.dtype == torch.float64
    assert net.shift.dtype == torch.float32
    torch.testing.assert_close(answers.float(), net(x))
