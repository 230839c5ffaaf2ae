"""The text encoder: what is changed in it, what it refuses, and meta-training it in second order."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig

from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Vmap
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradients.meta_gradient import Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.models.norm import LayerNorm
from metaloop.models.transformers.text_encoder import TextClassifier
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import EpisodeSpec

CONFIG = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}


def words(examples: int = 4, length: int = 6) -> dict[str, Tensor]:
    lengths = torch.randint(2, length + 1, (examples, 1))
    return {
        "input_ids": torch.randint(0, 30, (examples, length)),
        "attention_mask": (torch.arange(length) < lengths).long(),
    }


def test_it_is_the_librarys_encoder_with_a_masked_mean_and_a_linear_head(tmp_path: Path) -> None:
    config = BertConfig(**{key: value for key, value in CONFIG.items() if key != "model_type"})
    native = AutoModel.from_config(config).eval()
    native.save_pretrained(tmp_path)
    model = TextClassifier((6,), 3, name_or_path=str(tmp_path)).eval()
    x = words()
    hidden = native(**x).last_hidden_state
    mean = torch.stack([row[real.bool()].mean(0) for row, real in zip(hidden, x["attention_mask"], strict=True)])
    torch.testing.assert_close(model(x), model.head(mean), rtol=1e-5, atol=1e-6)
    headless = TextClassifier((6,), None, name_or_path=str(tmp_path))
    torch.testing.assert_close(headless(x), mean, rtol=1e-5, atol=1e-6)  # in training mode too: no dropout


def test_weights_stored_in_half_precision_become_float32(tmp_path: Path) -> None:
    config = BertConfig(**{key: value for key, value in CONFIG.items() if key != "model_type"})
    AutoModel.from_config(config).to(torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    model = TextClassifier((6,), 3, name_or_path=str(tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_padding_is_not_read() -> None:
    model, x = TextClassifier((6,), 3, config=CONFIG), words()
    other = x | {"input_ids": torch.where(x["attention_mask"] > 0, x["input_ids"], 7)}
    assert not torch.equal(other["input_ids"], x["input_ids"])
    torch.testing.assert_close(model(other), model(x))


def test_its_layer_norms_are_ours_and_its_attention_is_eager() -> None:
    model = TextClassifier((6,), 3, config=CONFIG)
    kinds = {type(layer) for layer in model.modules()}
    assert LayerNorm in kinds
    assert nn.LayerNorm not in kinds
    assert model.encoder.config._attn_implementation == "eager"
    assert model.encoder.pooler is None


@pytest.mark.parametrize("stored", [False, True])
def test_dropout_is_off_unless_asked_for(stored: bool, tmp_path: Path) -> None:
    x, source = words(), {"config": CONFIG}
    if stored:
        TextClassifier((6,), None, config=CONFIG).encoder.save_pretrained(tmp_path)  # type: ignore[operator]
        source = {"name_or_path": str(tmp_path)}  # type: ignore[dict-item]
    quiet, noisy = TextClassifier((6,), 3, **source), TextClassifier((6,), 3, **source, dropout=0.5)  # type: ignore[arg-type]
    assert torch.equal(quiet(x), quiet(x))
    assert not torch.equal(noisy(x), noisy(x))
    noisy.eval()
    assert torch.equal(noisy(x), noisy(x))


def test_the_librarys_mask_helper_fails_under_vmap_where_ours_does_not() -> None:
    """Should this fail with a newer transformers, the mask need no longer be made here."""
    model, x = TextClassifier((6,), 3, config=CONFIG), words()
    stacked = {name: value.unflatten(0, (2, 2)) for name, value in x.items()}
    torch.testing.assert_close(torch.func.vmap(model)(stacked).flatten(0, 1), model(x))
    with pytest.raises(RuntimeError, match=r"vmap|data-dependent"):
        torch.func.vmap(lambda t: model.encoder(**t).last_hidden_state)(stacked)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((6,), {}, "give name_or_path=FOLDER, or config"),
        ((6,), {"config": {"vocab_size": 5}}, "model_type"),
        ((6,), {"config": {"model_type": "no_such_model"}}, "no_such_model"),
        ((6,), {"config": CONFIG | {"is_decoder": True}}, "not an encoder"),
        ((6,), {"config": {"model_type": "t5"}}, "not an encoder"),
        ((13,), {"config": CONFIG}, "at most 12"),
        ((1, 8, 8), {"config": CONFIG}, "model=conv4"),
        ((6,), {"name_or_path": "nobody/no-such-model"}, r"hf download nobody/no-such-model --local-dir FOLDER"),
        ((6,), {"name_or_path": "no/such/folder"}, "hf download"),
    ],
)
def test_what_it_refuses(
    shape: tuple[int, ...], arguments: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message):
        TextClassifier(shape, 3, **arguments)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="weights and tokenizer"):
        TextClassifier((6,), 3, name_or_path=str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("layers", r"weights in .*model\.safetensors are not those.*16 are absent, such as encoder\.layer\.2\."),
        ("shapes", r"6 have other shapes, such as .*: stored \(16,\), expected \(20,\)"),
        ("prefix", r"are absent, such as embeddings\.LayerNorm\.bias"),
        ("cut", r"model\.safetensors cannot be read \(SafetensorError"),
        ("pickle", r"pytorch_model\.bin cannot be read \(UnpicklingError"),
    ],
)
def test_weights_that_are_not_all_there_are_refused(damage: str, message: str, tmp_path: Path) -> None:
    """The library would draw what is absent at random."""
    AutoModel.from_config(BertConfig(**{key: value for key, value in CONFIG.items() if key != "model_type"})).save_pretrained(
        tmp_path
    )
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    changed = {"layers": {"num_hidden_layers": 3}, "shapes": {"intermediate_size": 20}}.get(damage, {})
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    if damage == "prefix":
        save_file({f"other.{name}": value for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:2000])
    if damage == "pickle":
        weights.unlink()
        (tmp_path / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(UserError, match=message):
        TextClassifier((6,), 3, name_or_path=str(tmp_path))


def test_weights_of_a_pooler_may_be_absent(tmp_path: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model(**CONFIG), add_pooling_layer=False).save_pretrained(tmp_path)
    TextClassifier((6,), 3, name_or_path=str(tmp_path))


@pytest.mark.parametrize("x", [torch.zeros(4, 6), {"input_ids": torch.zeros(4, 6, dtype=torch.long)}])
def test_inputs_that_are_no_tokens_are_refused(x: object) -> None:
    with pytest.raises(UserError, match="input_ids, attention_mask"):
        TextClassifier((6,), 3, config=CONFIG)(x)


def test_given_config_is_left_alone() -> None:
    config = copy.deepcopy(CONFIG)
    TextClassifier((6,), 3, config=config)
    assert config == CONFIG


def test_it_is_meta_trained_in_second_order_on_a_pool_of_tokens() -> None:
    """Classes differ in which tokens they use; outer Adam on one frozen meta-batch fits them."""
    random = torch.Generator().manual_seed(0)
    classes, examples, length = 6, 8, 6
    ids = torch.randint(0, 4, (classes, examples, length), generator=random) + 4 * torch.arange(classes)[:, None, None]
    real = (torch.arange(length) < torch.randint(3, 7, (classes, examples, 1), generator=random)).long()
    inputs = {"input_ids": (ids * real).flatten(0, 1), "attention_mask": real.flatten(0, 1)}
    pool = ClassPool(inputs, [examples] * classes, [f"class {c}" for c in range(classes)])
    spec = EpisodeSpec(ways=3, shots=2, queries=4)
    tasks = Episodes(pool, spec, Stream(0, "train")).tasks(torch.arange(4))
    model = TextClassifier(pool.input_shape, pool.outputs(spec), config=CONFIG)
    learner = GradientLearner(
        model,
        CrossEntropy(),
        All(),
        lambda params: GradientDescent(params, lr=0.1),
        Unrolled(),
        LastStep(),
        Learned(),
        Vmap(),
        2,
    )
    adam = torch.optim.Adam(learner.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        adam.zero_grad()
        loss = learner.meta_loss(tasks).loss
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses
