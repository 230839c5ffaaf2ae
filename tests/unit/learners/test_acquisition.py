"""Acquisition rules, against values by hand."""

import math

import pytest
import torch

from metaloop.config.build import build_learner_for
from metaloop.config.composition import composer
from metaloop.config.trained_on import trained_on
from metaloop.errors import UserError
from metaloop.learners.acquisition import Candidates, GradientNorm, Popularity, PopularityEntropy, gradient_norms
from metaloop.learners.learner import Learner
from metaloop.metrics.recommendation import label_entropy
from metaloop.types import EpisodeSpec, Examples

from made_ratings import made_up  # isort: skip


def candidates() -> Candidates:
    y = torch.tensor([1.0, 1.0, 2.0, 2.0, 1.0, 1.0])[:, None]
    return Candidates(4, Examples(torch.zeros(6, 1), y), torch.tensor([0, 0, 1, 1, 1, 3]))


def made(algorithm: str) -> tuple[Learner, Candidates]:
    train = made_up().split("train")
    with composer("train", [], []) as hydra:
        config = hydra.compose([f"algorithm={algorithm}", "model=ratings", "model.embedding=4", "model.hidden=[6]"])
    from omegaconf import OmegaConf

    plain = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("algorithm", "model")}
    learner = build_learner_for({**plain, "seed": 0}, trained_on(train, EpisodeSpec(1, 3, 5))).double()
    return learner, Candidates(80, train.labelled(), train.rows.item)


def test_popularity_counts_labels() -> None:
    assert Popularity().values(None, candidates()).tolist() == [2, 3, 0, 1]  # type: ignore[arg-type]


def test_entropy_is_that_of_the_labels_of_each_candidate() -> None:
    third = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    entropy = label_entropy(candidates().examples.y[:, 0], candidates().which, 4)
    assert entropy.tolist() == pytest.approx([0.0, third, 0.0, 0.0])
    values = PopularityEntropy().values(None, candidates())  # type: ignore[arg-type]
    assert values.tolist() == pytest.approx([0.0, math.log(4) * third, 0.0, 0.0])


def test_gradient_norms_are_those_of_each_example_alone() -> None:
    learner, known = made("melu")
    few = known.examples.map(lambda tensor: tensor[:7])
    norms = gradient_norms(learner, Examples(few.x, few.y.double()))  # type: ignore[arg-type]
    adapting = [value for name, value in learner.model.named_parameters() if name.startswith(("layers", "head"))]
    for place in range(7):
        loss = (learner.model(few.x[place : place + 1]) - few.y[place : place + 1]).square().mean()
        gradients = torch.autograd.grad(loss, adapting)
        assert norms[place].item() == pytest.approx(sum(each.square().sum().item() for each in gradients) ** 0.5)


def test_the_value_is_the_mean_norm_times_popularity() -> None:
    learner, known = made("melu")
    norms = gradient_norms(learner, Examples(known.examples.x, known.examples.y.double()))  # type: ignore[arg-type]
    means = torch.stack([norms[known.which == item].sum() / max(1, int((known.which == item).sum())) for item in range(80)])
    expected = means / means.max() * known.popularity / known.popularity.max()
    labelled = Examples(known.examples.x, known.examples.y.double(), sequence=known.examples.sequence)
    torch.testing.assert_close(GradientNorm().values(learner, Candidates(80, labelled, known.which)), expected)


def test_learners_without_inner_steps_have_no_gradient() -> None:
    learner, known = made("cnp")
    with pytest.raises(UserError, match="popularity_entropy"):
        GradientNorm().values(learner, known)
