"""What the key of a frozen encoder's features tells apart."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from metaloop.learners import frozen
from metaloop.learners.frozen import frozen_encoder
from metaloop.models.transformers.text_encoder import TextClassifier

CONFIG = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}


def key(folder: Path) -> str:
    return frozen_encoder(TextClassifier((6,), None, str(folder), frozen=True), "settings", torch.device("cpu")).key


@pytest.mark.parametrize(
    ("old", "new"),
    [('"hidden_act": "gelu"', '"hidden_act": "relu"'), ('_heads": 2', '_heads": 4'), ('_eps": 1e-12', '_eps": 1e-6')],
)
def test_another_configuration_of_the_same_weights_is_another_encoder(old: str, new: str, tmp_path: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model(**CONFIG)).save_pretrained(tmp_path)
    before = key(tmp_path)
    assert key(tmp_path) == before
    config = tmp_path / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    assert key(tmp_path) != before


def test_another_version_is_another_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model(**CONFIG)).save_pretrained(tmp_path)
    keys = [key(tmp_path)]
    monkeypatch.setattr(frozen, "_VERSION", 0)
    keys.append(key(tmp_path))
    # What a test imports by that name is another object if the library's lazy module was made anew meanwhile.
    monkeypatch.setattr(TextClassifier.described.__globals__["transformers"], "__version__", "0")
    keys.append(key(tmp_path))
    assert len(set(keys)) == 3
