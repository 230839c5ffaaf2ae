"""Vision models of transformers: what is changed in them, what they refuse, and second order against finite differences."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModel, ResNetConfig
from transformers.utils import ModelOutput

from metaloop.errors import UserError
from metaloop.models.norm import LayerNorm, norm_mode
from metaloop.models.transformers.vision_encoder import ImageClassifier

ATTENTION = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "patch_size": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {"model_type": "vit", **ATTENTION},
    "resnet": {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic"},
    "convnext": {
        "model_type": "convnext", "patch_size": 2, "num_stages": 2, "hidden_sizes": [4, 6], "depths": [1, 1],
        "layer_scale_init_value": 0.5,
    },
}  # fmt: skip
SHAPE = (3, 8, 8)
every = pytest.mark.parametrize("name", CONFIGS)


def made(name: str, **more: Any) -> ImageClassifier:
    return ImageClassifier(SHAPE, 2, config=CONFIGS[name], **more)


def images(*lead: int) -> Tensor:
    return torch.rand(*lead, *SHAPE, dtype=torch.float64)


@every
def test_no_native_norm_is_left(name: str) -> None:
    for layer in made(name).modules():
        assert not isinstance(layer, nn.modules.batchnorm._BatchNorm)
        assert not isinstance(layer, nn.LayerNorm) or isinstance(layer, LayerNorm)


def test_batch_norms_take_every_mode() -> None:
    for mode in ("batch", "support", "running", "none"):
        model = made("resnet", norm=mode).double()
        assert norm_mode(model) == mode
        x = images(4)
        alone = model.eval()(x[:2])
        assert torch.allclose(model(x)[:2], alone) is (mode in ("running", "none"))
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    model = made("resnet", norm="support").double()
    torch.testing.assert_close(model(x, weight)[:2], model(x[:2]))


def test_it_is_the_librarys_network_with_a_linear_head(tmp_path: Path) -> None:
    config = ResNetConfig(**{key: value for key, value in CONFIGS["resnet"].items() if key != "model_type"})
    native = AutoModel.from_config(config)
    for _ in range(2):  # averages away from their start
        native(pixel_values=torch.rand(8, *SHAPE))
    native.eval().save_pretrained(tmp_path)
    model = ImageClassifier(SHAPE, None, name_or_path=str(tmp_path), norm="running").eval()
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(model(x), native(pixel_values=2 * x - 1).pooler_output.flatten(1))


WITHOUT_CLASS_TOKEN: dict[str, dict[str, Any]] = {
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "patch_size": 2},
    "siglip_vision_model": ATTENTION,
    "segformer": {"hidden_sizes": [4] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4},
}


@pytest.mark.parametrize("kind", WITHOUT_CLASS_TOKEN)
def test_without_a_class_token_features_are_the_mean_over_tokens_or_places(kind: str) -> None:
    torch.manual_seed(0)
    model, x = (
        ImageClassifier((3, 64, 64), None, config=WITHOUT_CLASS_TOKEN[kind] | {"model_type": kind}),
        torch.rand(2, 3, 64, 64),
    )
    hidden = model.encoder(2 * x - 1).last_hidden_state
    mean = hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)
    torch.testing.assert_close(model(x), mean)
    assert (mean - hidden.flatten(2)[:, :, 0] if hidden.ndim == 4 else mean - hidden[:, 0]).abs().max() > 1e-4
    assert mean.shape == (2, model.features)


def test_a_class_token_is_taken_where_there_is_one() -> None:
    for kind in ("vit", "clip_vision_model"):
        model, x = ImageClassifier(SHAPE, None, config=ATTENTION | {"model_type": kind}), torch.rand(2, *SHAPE)
        torch.testing.assert_close(model(x), model.encoder(2 * x - 1).last_hidden_state[:, 0])


def test_features_of_more_than_one_vector_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Film(nn.Module):
        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(last_hidden_state=x[:, None])

    monkeypatch.setattr("metaloop.models.transformers.vision_encoder._encoder", lambda settings, name: Film())
    with pytest.raises(UserError, match="one vector each"):
        made("vit")


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    made("vit").encoder.save_pretrained(tmp_path)  # type: ignore[operator]
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    with pytest.raises(UserError, match=r"model\.safetensors are not those .* are absent"):
        ImageClassifier(SHAPE, 2, name_or_path=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        ImageClassifier(SHAPE, 2, name_or_path=str(tmp_path))


@every
def test_weights_of_another_image_size(name: str, tmp_path: Path) -> None:
    ImageClassifier((3, 16, 16), None, config=CONFIGS[name], norm="running").encoder.save_pretrained(tmp_path)  # type: ignore[operator]
    assert ImageClassifier(SHAPE, None, name_or_path=str(tmp_path))(torch.rand(2, *SHAPE)).isfinite().all()


@every
def test_meta_gradients_under_vmap_equal_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    model = made(name).double()
    x, y = images(2, 4), torch.tensor([0, 1, 0, 1])
    params = {key: value.detach() for key, value in model.named_parameters()}

    def loss(p: dict[str, Tensor], pictures: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, p, (pictures,)), y)

    def outer(p: dict[str, Tensor], pictures: Tensor) -> Tensor:
        gradient = torch.func.grad(loss)(p, pictures)
        return loss({key: p[key] - 0.1 * gradient[key] for key in p}, pictures.flip(0))

    def total(p: dict[str, Tensor]) -> Tensor:
        return torch.func.vmap(outer, (None, 0))(p, x).mean()

    gradient = torch.func.grad(total)(params)
    direction = {key: torch.randn_like(value) for key, value in params.items()}
    step = 1e-6
    ahead, behind = ({key: params[key] + sign * step * direction[key] for key in params} for sign in (1, -1))
    slope = sum((gradient[key] * direction[key]).sum() for key in params)
    difference = (sum(outer(ahead, pictures) for pictures in x) - sum(outer(behind, pictures) for pictures in x)) / 2
    torch.testing.assert_close(slope, difference / (2 * step), rtol=1e-5, atol=1e-7)


def test_dropout_is_off_unless_asked_for() -> None:
    x = torch.rand(2, *SHAPE)
    quiet, noisy = made("vit"), made("vit", dropout=0.5)
    assert torch.equal(quiet(x), quiet(x))
    assert not torch.equal(noisy(x), noisy(x))


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        (SHAPE, {}, "give name_or_path=FOLDER, or config"),
        (SHAPE, {"config": {"patch_size": 2}}, "model_type"),
        (SHAPE, {"config": {"model_type": "no_such_model"}}, "no_such_model"),
        ((6,), {"config": CONFIGS["vit"]}, "reads images"),
        ((1, 8, 8), {"config": CONFIGS["vit"]}, "1 numbers each"),
        (SHAPE, {"config": CONFIGS["vit"], "norm": "group"}, "model.norm='group'"),
        (SHAPE, {"config": CONFIGS["vit"], "dropout": 1.0}, "model.dropout=1.0"),
        (SHAPE, {"name_or_path": "nobody/no-such-model"}, "hf download nobody/no-such-model --local-dir FOLDER"),
    ],
)
def test_what_it_refuses(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageClassifier(shape, 2, **arguments)


@every
def test_what_it_keeps_and_its_parameters_are_the_whole_model(name: str, tmp_path: Path) -> None:
    ImageClassifier((3, 16, 16), None, config=CONFIGS[name], norm="running").encoder.save_pretrained(tmp_path / "stored")  # type: ignore[operator]
    model = ImageClassifier(SHAPE, 3, name_or_path=str(tmp_path / "stored")).eval()
    ImageClassifier.keep(str(tmp_path / "stored"), tmp_path / "kept")
    again = ImageClassifier(SHAPE, 3, config=json.loads((tmp_path / "kept" / "config.json").read_text())).eval()
    again.load_state_dict(model.state_dict())
    x = torch.rand(2, *SHAPE)
    assert torch.equal(again(x), model(x))
