"""Networks that are optimised: their start and refusals."""

from typing import Any

import pytest
import torch

from metaloop.errors import UserError
from metaloop.models.optimisee import Optimisee

MLP = {"hidden": [20], "activation": "sigmoid", "bias": True, "scale": 0.01}


def test_a_linear_model_is_its_weights() -> None:
    model = Optimisee((10,), 1, hidden=[], activation="sigmoid", bias=False, scale=1.0)
    ((name, weights),) = model.named_parameters()
    assert name == "head.weight"
    x = torch.randn(4, 10)
    assert torch.equal(model(x), x @ weights.T)


def test_every_tensor_starts_at_its_scale() -> None:
    model = Optimisee((1, 8, 8), 10, **MLP)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert shapes == {"layers.0.weight": (20, 64), "layers.0.bias": (20,), "head.weight": (10, 20), "head.bias": (10,)}
    for value in model.parameters():
        assert value.std(correction=0).item() == pytest.approx(0.01)
        assert value.mean().item() == pytest.approx(0, abs=1e-8)
    assert Optimisee((3,), 1, **MLP).head.bias.tolist() == [0.0]


def test_activations_act_between_layers() -> None:
    for activation, function in (("sigmoid", torch.sigmoid), ("relu", torch.relu), ("tanh", torch.tanh)):
        model = Optimisee((3,), 2, **{**MLP, "activation": activation, "hidden": [4, 5]})
        x = torch.randn(6, 3)
        inner = function(model.layers[1](function(model.layers[0](x))))
        assert torch.equal(model(x), model.head(inner))


@pytest.mark.parametrize(("key", "value"), [("hidden", [0]), ("activation", "step"), ("scale", 0.0)])
def test_what_makes_no_network_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"model\.{key}="):
        Optimisee((3,), 2, **{**MLP, key: value})
