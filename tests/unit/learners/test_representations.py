"""What counts as a layer, and what is recorded of it."""

import pytest
import torch
from torch import nn

from metaloop.learners.representations import FEATURES, OUTPUT, by_layer, layers_of, recorded
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.mlp import MLP
from metaloop.models.transformers.text_encoder import TextClassifier


def small_bert() -> TextClassifier:
    config = {"model_type": "bert", "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    return TextClassifier((6,), 3, config={**config, "intermediate_size": 8})


def test_blocks_are_layers_where_there_are_blocks() -> None:
    assert list(layers_of(Conv4((1, 16, 16), 5, filters=4))) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3", "head"]
    assert list(layers_of(MLP((4,), 2, [3, 3]))) == ["layers.0", "layers.1", "head"]
    assert list(layers_of(MLP((4,), 2, [3], norm="layer"))) == ["layers.0", "norms.0", "head"]
    encoder = ["encoder.embeddings", "encoder.encoder.layer.0", "encoder.encoder.layer.1"]
    assert list(layers_of(small_bert())) == [*encoder, "head"]


def test_parameters_belong_to_their_layer_or_to_their_module() -> None:
    names = ["blocks.1.conv.weight", "blocks.10.conv.weight", "blocks.1.norm.bias", "temperature", "extra.scale"]
    assert by_layer(names, ["blocks.1", "blocks.10", "head"]) == {
        "blocks.1": ["blocks.1.conv.weight", "blocks.1.norm.bias"],
        "blocks.10": ["blocks.10.conv.weight"],
        "temperature": ["temperature"],
        "extra": ["extra.scale"],
    }


def test_answers_are_recorded_and_hooks_leave_no_trace() -> None:
    model, x = MLP((4,), 2, [3]), torch.randn(5, 4)
    with recorded(model) as seen:
        output = model(x)
    torch.testing.assert_close(seen["layers.0"], model.layers[0](x).detach())
    torch.testing.assert_close(seen["head"], output.detach())
    torch.testing.assert_close(seen[OUTPUT], output.detach())
    torch.testing.assert_close(seen[FEATURES], model.layers[0](x).relu().detach())
    with pytest.raises(ZeroDivisionError), recorded(model):
        1 / 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_without_a_head_the_answer_is_the_features() -> None:
    model, x = MLP((4,), None, [3]), torch.randn(5, 4)
    with recorded(model) as seen:
        output = model(x)
    torch.testing.assert_close(seen[FEATURES], output.detach())


def test_tuples_are_read_and_answers_that_are_no_row_an_example_left_out() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.both, self.head = nn.Embedding(7, 2), nn.LSTM(2, 2, batch_first=True), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            places = self.table(torch.arange(3))
            return self.head(self.both(x + places)[0][:, -1])

    model = Odd()
    with recorded(model) as seen:
        model(torch.randn(5, 3, 2))
    assert sorted(seen) == sorted(["both", "head", FEATURES, OUTPUT])
    assert seen["both"].shape == (5, 3, 2)


def test_a_transformers_layers_answer_one_row_an_example() -> None:
    model = small_bert()
    x = {"input_ids": torch.ones(4, 6, dtype=torch.int64), "attention_mask": torch.ones(4, 6, dtype=torch.int64)}
    with recorded(model) as seen:
        model(x)
    assert {name: len(value) for name, value in seen.items()} == dict.fromkeys([*layers_of(model), FEATURES, OUTPUT], 4)
