"""Baselines."""

import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from metaloop.data.functions.optimization import FittingProblems, QuadraticProblems
from metaloop.data.label_noise import NoisyEpisodes
from metaloop.data.out_of_scope import WithOutOfScope
from metaloop.data.pool import ClassPool
from metaloop.data.texts.word_pool import WordPool
from metaloop.models.hashed_words import HashedWords
from metaloop.problems.baselines import nearest_neighbour, nearest_text, same_word, support_mean
from metaloop.types import Examples


def test_the_nearest_real_example_and_the_mean_of_values() -> None:
    support = Examples(
        torch.tensor([[[0.0], [10.0], [20.0]]]), torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]]), 3
    )
    found = nearest_neighbour(support, torch.tensor([[[1.0], [9.0], [30.0]]]))
    assert found.argmax(-1).tolist() == [[2, 0, 0]]
    values = Examples(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]))
    assert support_mean(values, torch.zeros(1, 4, 1)).flatten().tolist() == [2.0] * 4


def texts(*rows: list[str], length: int = 6) -> dict[str, torch.Tensor]:
    """One task's texts as token ids."""
    found = HashedWords(10_000)([text for row in rows for text in row], length)
    return {name: torch.from_numpy(array)[None].long() for name, array in found.items()}


def test_F8_the_nearest_text_shares_rare_words() -> None:
    support = Examples(
        texts(["the rain in spain", "the train to rome", "the rain in spain"]),
        torch.tensor([[1, 0, 0]]),
        torch.tensor([[True, True, False]]),
        2,
    )
    found = nearest_text(support, texts(["to the rain the the", "train the the the the", "spain"]))
    assert found.argmax(-1).tolist() == [[1, 0, 1]]
    doubled = Examples(texts(["a b", "a c"]), torch.tensor([[0, 1]]), None, 2)
    assert nearest_text(doubled, texts(["c", "b a"])).tolist() == [[[0, 1], [1, 0]]]


def test_F8_the_similarity_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 12, (30, 8), generator=generator)
    known, asked = [
        [" ".join(f"w{word}" for word in row) for row in part] for part in (words[:20].tolist(), words[20:].tolist())
    ]
    support = Examples(texts(known, length=8), torch.arange(20)[None], None, 20)
    found = nearest_text(support, texts(asked, length=8)).argmax(-1)[0]
    vectors = TfidfVectorizer(token_pattern=r"\S+").fit(known)
    similar = (vectors.transform(asked) @ vectors.transform(known).T).toarray()
    assert [similar[row, column] for row, column in enumerate(found)] == pytest.approx(similar.max(1))


def test_F8_a_word_has_the_class_that_it_has_in_the_support_set() -> None:
    ids, place = torch.tensor([[[5, 6], [5, 6], [7, 7], [5, 9]]]), torch.tensor([[[0], [1], [0], [0]]])
    support = Examples(
        {"input_ids": ids, "place": place}, torch.tensor([[0, 1, 2, 1]]), torch.tensor([[True, True, True, False]]), 3
    )
    query = {"input_ids": torch.tensor([[[6, 5], [6, 5], [7, 8], [8, 0]]]), "place": torch.tensor([[[0], [1], [0], [0]]])}
    assert same_word(support, query).argmax(-1).tolist() == [[1, 0, 2, 0]]


def test_F8_pools_of_texts_and_words_and_fitting_problems_choose_their_baseline() -> None:
    tokens = {"input_ids": torch.ones(4, 3), "attention_mask": torch.ones(4, 3)}
    pool = ClassPool(tokens, [2, 2], ["a", "b"])
    assert pool.baseline().answer is nearest_text  # type: ignore[union-attr]
    assert NoisyEpisodes(WithOutOfScope(pool, tokens, 1), 0.1).baseline().answer is nearest_text  # type: ignore[union-attr]
    assert pool.of(torch.zeros(4, 3)).baseline().answer is nearest_neighbour  # type: ignore[union-attr]
    words = WordPool(tokens | {"place": torch.zeros(4, 1)}, [2, 2], torch.tensor([0, -1, 1, -1]), ["x", "y"], [2], "test")
    assert words.baseline().answer is same_word  # type: ignore[union-attr]
    assert words.of(torch.zeros(4, 3)).baseline().answer is nearest_neighbour  # type: ignore[union-attr]
    assert FittingProblems(pool).baseline() is None
    assert QuadraticProblems(3).baseline() is None
