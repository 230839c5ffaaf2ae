"""From a config to objects, and what is wrong with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from metaloop.config.build import (
    build_dataset,
    build_learner,
    build_plan,
    build_tokenizer,
    check_learner,
    episode_specs,
    make,
)
from metaloop.config.build_run import build_run
from metaloop.config.identity import plain
from metaloop.data.texts.word_pool import WordPool
from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.models.bag_of_words import BagOfWords
from metaloop.types import EpisodeSpec
from small_runs import SMALL, described, trained


def config(*overrides: str) -> dict[str, Any]:
    return dict(described(*SMALL, *overrides).config)


def learner(*overrides: str) -> Learner:
    made = config(*overrides)
    return build_learner(made, build_dataset(made).split("train"), build_plan(made).train_spec)


def test_a_plain_config_is_resolved_and_says_nothing_of_how_the_run_starts() -> None:
    found = plain(OmegaConf.create({"a": 1, "b": "${a}", "c": {"d": [1, "${b}"]}, "resume": "auto"}))
    assert found == {"a": 1, "b": 1, "c": {"d": [1, 1]}}
    assert type(found["c"]["d"]) is list


@pytest.mark.parametrize(
    ("content", "expected"), [({"a": {"b": "???"}, "c": "???"}, "a.b, c: a value is needed"), ({"a": "${nowhere}"}, "nowhere")]
)
def test_an_incomplete_config_names_the_whole_key(content: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        plain(OmegaConf.create(content))


def test_unlabelled_examples_are_part_of_an_episode_and_of_training_episodes() -> None:
    episode = {"ways": 5, "shots": 1, "queries": 15, "unlabelled": 5, "train": {"unlabelled": None, "distractors": 2}}
    spec, train_spec = episode_specs(episode)
    assert (spec.unlabelled, spec.distractors) == (5, 0)
    assert (train_spec.unlabelled, train_spec.distractors) == (5, 2)


def test_unlabelled_examples_that_nobody_would_look_at_or_give_are_refused() -> None:
    build_run(config("algorithm=soft_kmeans", "episode.unlabelled=2"))
    with pytest.raises(UserError, match=r"episode\.unlabelled=2: this learner uses labelled examples only"):
        build_run(config("algorithm=prototypes", "episode.unlabelled=2"))
    with pytest.raises(UserError, match=r"episode\.unlabelled=2: this data set has no unlabelled examples"):
        build_run(config("dataset=sinusoid", "episode=regression", "+episode.unlabelled=2"))


def test_training_episodes_may_have_another_size() -> None:
    episode = {"ways": 5, "shots": [1, 3], "queries": 15, "train": {"ways": 20, "shots": None, "queries": 2}}
    assert episode_specs(episode) == (EpisodeSpec(5, (1, 3), 15), EpisodeSpec(20, (1, 3), 2))
    assert episode_specs({"ways": 5, "shots": 1, "queries": 15}) == (EpisodeSpec(5, 1, 15),) * 2


def test_initial_parameters_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, again, other = learner("seed=4"), learner("seed=4", "outer.meta_batch=4"), learner("seed=5")
    assert torch.equal(torch.get_rng_state(), before)
    states = [torch.cat([value.flatten() for value in each.parameters()]) for each in (one, again, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_head_answers_the_training_episodes_ways() -> None:
    assert learner("episode.train.ways=5").model.head.out_features == 5
    assert learner("algorithm=prototypes").model.head is None


def test_training_with_fewer_ways_than_are_tested_is_refused() -> None:
    with pytest.raises(UserError, match=r"head was made for 2 ways .* episode\.train\.ways=3"):
        build_run(config("episode.train.ways=2"))


def test_learners_are_asked_about_the_classes_that_tasks_have() -> None:
    """Of labelled words there is one more than there are ways."""
    words = WordPool(torch.randn(4, 2), [2, 2], torch.tensor([0, -1, 1, -1]), ["a", "b"], (2,), "test")
    with pytest.raises(UserError, match=r"head was made for 3 ways .* episode\.ways=3 counts 1 fewer"):
        check_learner(learner("episode.train.ways=3"), words, EpisodeSpec(3, 1, 1))
    check_learner(learner("episode.train.ways=3"), words, EpisodeSpec(2, 1, 1))
    check_learner(learner("algorithm=prototypes"), words, EpisodeSpec(1, 1, 1))


class Picky:
    """Refuses."""

    def __init__(self, how: str) -> None:
        raise {"user": UserError("size: choose less"), "ours": RuntimeError("broken")}[how]


def test_a_refusal_from_inside_is_passed_on_and_a_fault_is_not_hidden() -> None:
    target = {"_target_": f"{__name__}.Picky"}
    with pytest.raises(UserError, match=r"^size: choose less$"):
        make(target | {"how": "user"}, "thing")
    with pytest.raises(Exception, match="broken") as fault:
        make(target | {"how": "ours"}, "thing")
    assert not isinstance(fault.value, UserError)
    for wrong in ({}, {"how": "user", "colour": 1}):
        with pytest.raises(UserError, match="thing cannot be built"):
            make(target | wrong, "thing")
    with pytest.raises(UserError, match="thing cannot be built"):
        make({"_target_": f"{__name__}.Nothing"}, "thing")


def test_a_data_set_of_texts_gets_the_tokenizer_of_the_model() -> None:
    node = {"_target_": "metaloop.models.bag_of_words.BagOfWords", "size": 64}
    assert build_tokenizer(node).key == BagOfWords.tokenizer({"size": 64}).key
    with pytest.raises(UserError, match=r"model\._target_='metaloop\.models\.mlp\.MLP' does not read texts.*model=tfidf"):
        build_dataset(config("dataset=clinc150"))


def test_frequencies_of_words_are_of_meta_training_alone() -> None:
    made = config("dataset=words", "model=tfidf", "model.size=100", "algorithm=nearest_centroid")
    train = build_dataset(made).split("train")
    idf = learner("dataset=words", "model=tfidf", "model.size=100", "algorithm=nearest_centroid").model.idf
    assert torch.equal(idf, BagOfWords((10,), None, train.inputs, 100).idf)
    with pytest.raises(UserError, match="reads all meta-training examples, but this data set has no list of them"):
        learner("dataset=sinusoid", "episode=regression", "model=tfidf")


def test_what_has_nothing_to_learn_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither model nor algorithm has a parameter.*algorithm=nearest_centroid"):
        trained(tmp_path, "dataset=words", "model=tfidf", "model.size=100", "algorithm=prototypes")
