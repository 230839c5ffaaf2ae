"""The contract of models."""

import pytest
import torch
from made_tasks import WAYS, made_inputs, made_model
from members import MODELS, OF_TEXTS
from torch import Tensor

from metaloop.models.norm import MODES, OF_EXAMPLES, norm_mode
from metaloop.types import Inputs, map_inputs

every_model = pytest.mark.parametrize("name", MODELS)


def inputs(name: str) -> Inputs:
    random = torch.Generator().manual_seed(2)
    return made_inputs(MODELS[name][0], (6,), text=name in OF_TEXTS, random=random)


def normalised(name: str) -> tuple[str, ...]:
    """List the norm modes of a model; a model without the argument has one built in."""
    built_in = {
        "text": ("layer",),
        "vision": ("layer",),
        "bag of words": ("none",),
        "optimisee": ("none",),
        "on features": ("none",),
    }
    return built_in.get(name, MODES)


@every_model
def test_it_answers_one_row_an_example_and_features_without_a_head(name: str) -> None:
    x = inputs(name)
    assert made_model(name)(x).shape == (6, WAYS)
    headless = made_model(name, outputs=None)
    assert headless.head is None
    assert headless(x).shape == (6, headless.features)
    assert not [n for n, _ in headless.named_parameters() if n.startswith("head")]


@every_model
def test_its_head_is_a_linear_map_of_its_features(name: str) -> None:
    model, headless = made_model(name), made_model(name, outputs=None)
    headless.load_state_dict({n: v for n, v in model.state_dict().items() if not n.startswith("head.")})
    torch.testing.assert_close(model.head(headless(inputs(name))), model(inputs(name)))


@every_model
def test_it_says_how_it_normalises(name: str) -> None:
    for mode in normalised(name):
        assert norm_mode(made_model(name, norm=mode)) == mode


@every_model
def test_examples_are_independent_unless_statistics_are_shared(name: str) -> None:
    for mode in normalised(name):
        model, x = made_model(name, norm=mode).eval(), inputs(name)
        alone = model(map_inputs(lambda t: t[:3], x))
        independent = torch.allclose(model(x)[:3], alone)
        assert independent is (mode not in OF_EXAMPLES)


@every_model
def test_the_same_seed_makes_the_same_model(name: str) -> None:
    left, right = (made_model(name).state_dict() for _ in range(2))
    assert all(torch.equal(left[key], right[key]) for key in left)


@every_model
def test_every_parameter_has_an_effect(name: str) -> None:
    for mode in normalised(name):
        model = made_model(name, norm=mode)
        (model(inputs(name)) ** 2).sum().backward()
        silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9}
        assert not {n for n in silent if not _cancelled(n, mode)}, mode


def _cancelled(name: str, mode: str) -> bool:
    """Batch statistics remove a shift before them, and the softmax cancels a key bias."""
    return (mode in (*OF_EXAMPLES, "running") and name.startswith("layers") and name.endswith("bias")) or (
        name.endswith(("key.bias", "k_proj.bias"))
    )


@every_model
def test_vmap_over_tasks_equals_the_loop(name: str) -> None:
    for mode in normalised(name):
        model, x = made_model(name, norm=mode), inputs(name)

        def halves(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (2, 3))

        stacked = torch.func.vmap(model)(map_inputs(halves, x))
        for i in range(2):
            alone = model(map_inputs(lambda t, i=i: halves(t)[i], x))
            torch.testing.assert_close(stacked[i], alone)
