"""TF-IDF against scikit-learn's, and the tokeniser of words."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from metaloop.errors import UserError
from metaloop.models.bag_of_words import BagOfWords
from metaloop.models.hashed_words import HashedWords

SEEN = ["the cat sat", "the dog sat on the mat", "a bird sang", "the the end"]
ASKED = ["the cat and the bird", "mat mat dog", "nothing known"]
SIZE = 100_003


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).long() for name, array in arrays.items()}


def test_features_are_those_of_scikit_learn() -> None:
    tokenizer = BagOfWords.tokenizer({"size": SIZE})
    model = BagOfWords((8,), None, tensors(tokenizer(SEEN, 8)), SIZE)
    vectorizer = TfidfVectorizer(token_pattern=r"\w+").fit(SEEN)
    words = vectorizer.get_feature_names_out()
    columns = [int(tokenizer([word], 1)["input_ids"][0, 0]) for word in words]
    assert len(set(columns)) == len(columns)
    known = [text for text in ASKED if set(text.split()) <= set(words)] + SEEN
    found = model(tensors(tokenizer(known, 8)))
    np.testing.assert_allclose(found[:, columns], vectorizer.transform(known).toarray(), atol=1e-6)


def test_words_of_other_texts_than_the_meta_training_ones_weigh_alike() -> None:
    model = BagOfWords((8,), None, tensors(HashedWords(SIZE)(SEEN, 8)), SIZE)
    features = model(tensors(HashedWords(SIZE)(["nothing known"], 8)))
    assert features[features > 0].tolist() == pytest.approx([0.5**0.5] * 2)
    assert not model(tensors(HashedWords(SIZE)([""], 8))).any()
    assert not [name for name, _ in model.named_parameters()]


def test_only_texts_will_do() -> None:
    with pytest.raises(UserError, match=r"reads token ids \(length,\); the data set gives \(1, 8, 8\)"):
        BagOfWords((1, 8, 8), None, torch.zeros(3, 1, 8, 8), 50)
    with pytest.raises(UserError, match="a hashed vocabulary of 1 tokens"):
        BagOfWords.tokenizer({"size": 1})


def test_words_are_lower_case_and_punctuation_is_apart() -> None:
    tokenizer = HashedWords(SIZE)
    left, right = (tokenizer([text], 6) for text in ("Don't STOP!", "don ' t stop !"))
    assert np.array_equal(left["input_ids"], right["input_ids"])
    assert left["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0]]
    assert left["input_ids"].min() == 0
    assert left["input_ids"][0, :5].min() > 0
    assert left["input_ids"].max() < SIZE


def test_words_that_are_split_already_stay_one_token_each() -> None:
    found = HashedWords(SIZE).words([["New", "York's", "mayor"], ["hi"]], 2)
    assert found["first"].tolist() == [[0, 1, -1], [0, -1, -1]]
    assert found["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert len(set(found["input_ids"].flatten().tolist())) == 4
