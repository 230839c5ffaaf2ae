"""How a metric learner is put together, and what it refuses."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.metric.comparison import AuxiliaryLoss, Embedding
from metaloop.learners.metric.comparisons.cosine import Cosine
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.comparisons.local_descriptors import LocalDescriptors
from metaloop.learners.metric.comparisons.set_to_set import SetToSet
from metaloop.learners.metric.comparisons.soft_kmeans import SoftKMeans
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.learners.metric.regime import Regime
from metaloop.learners.metric.transform import Centred, UnitLength
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, without_absent_classes
from metaloop.types import Examples, Tasks
from small_runs import trained


def made(model: torch.nn.Module | None = None, **arguments: object) -> MetricLearner:
    chosen = {"model": model or MLP((4,), None, [8]), "loss": CrossEntropy(), "comparison": Cosine(), "over_tasks": Loop()}
    return MetricLearner(**(chosen | arguments))  # type: ignore[arg-type]


def made_tasks(*, masked: bool) -> Tasks:
    """Two tasks of two ways, float64; where masked, the second has a single way."""
    y = torch.arange(2).repeat_interleave(3).repeat(2, 1)
    mask = torch.stack([y[0] >= 0, y[1] < 1]) if masked else None
    parts = [Examples(torch.randn(2, 6, 4, dtype=torch.float64), y, mask, 2) for _ in range(2)]
    return Tasks(*parts, torch.arange(2))


def test_parts_are_built_with_what_the_model_answers() -> None:
    seen: list[Embedding] = []

    def build(embedding: Embedding) -> Euclidean:
        seen.append(embedding)
        return Euclidean()

    made(comparison=build)
    made(Conv4((1, 28, 28), None, filters=4, halvings=2), comparison=build)
    assert seen == [Embedding(8, None), Embedding(4 * 7 * 7, (4, 7, 7))]


def test_comparisons_of_maps_get_maps() -> None:
    images = Conv4((1, 28, 28), None, filters=4, halvings=2)
    learner = made(images, comparison=LocalDescriptors())
    assert images(torch.randn(2, 1, 28, 28), maps=True).shape == (2, 4, 7, 7)
    support = Examples(torch.randn(2, 4, 1, 28, 28), torch.arange(2).repeat(2, 2), None, 2)
    assert learner.adapt(support)(torch.randn(2, 3, 1, 28, 28)).shape == (2, 3, 2)
    with pytest.raises(UserError, match="model=conv4_maps"):
        made(comparison=LocalDescriptors())
    with pytest.raises(UserError, match=r"algorithm/transform=none"):
        made(Conv4((1, 28, 28), None, filters=4), comparison=LocalDescriptors(), transform=UnitLength())


def test_the_auxiliary_loss_is_added_in_meta_training() -> None:
    torch.manual_seed(0)
    y = torch.arange(2).repeat(3, 2)
    tasks = Tasks(*(Examples(torch.randn(3, 4, 4), y, None, 2) for _ in range(2)), torch.arange(3))
    comparison = SetToSet(Embedding(8, None), balance=0.7)
    learner = made(comparison=comparison)
    assert isinstance(comparison, AuxiliaryLoss)
    with torch.no_grad():
        support, query = learner.model(tasks.support.x[0]), learner.model(tasks.query.x[0])
        one = tasks.map(lambda t: t[0])
        expected = comparison.auxiliary_loss(support, one.support, query, one.query)
        whole = learner.meta_loss(tasks).per_step[0, 0]
        comparison.balance = 0.0
        torch.testing.assert_close(whole - learner.meta_loss(tasks).per_step[0, 0], expected)
    assert expected > 0.01


def test_regimes_say_when_they_classify() -> None:
    assert [Regime(2).classifies(step) for step in range(4)] == [True, True, False, False]
    assert not Regime().ever
    assert Regime(None).always
    assert Regime(None).classifies(10**9)
    with pytest.raises(UserError, match=r"algorithm\.regime\.classification_steps=-1"):
        Regime(-1)


def test_classification_needs_numbered_classes() -> None:
    with pytest.raises(UserError, match="algorithm/regime=episodic"):
        made(regime=Regime(None), classes=None)
    assert made(classes=None).classes_head is None
    images = Conv4((1, 28, 28), None, filters=4, halvings=2, downsample="stride")
    learner = made(images, comparison=LocalDescriptors(), regime=Regime(1), classes=9)
    assert learner.classes_head is not None
    assert learner.classes_head.weight.shape == (9, 4 * 7 * 7)


@pytest.mark.parametrize("masked", [False, True])
def test_training_normalises_an_episode_as_one_batch_where_running_averages_are_learned(masked: bool) -> None:
    tasks = made_tasks(masked=masked)
    learner = made(MLP((4,), None, [8], norm="running").double())
    twin = copy.deepcopy(learner.model)
    outcome = learner.train().meta_loss(tasks)
    means = []
    for i in range(len(tasks)):
        one = tasks.map(lambda t, i=i: t[i])
        x = torch.cat([one.support.x, one.query.x])
        real = torch.ones(len(x), dtype=torch.bool)
        if masked:
            assert one.support.mask is not None
            assert one.query.mask is not None
            real = torch.cat([one.support.mask, one.query.mask])
        features = twin.train()(x, real)
        shots = len(one.support.y)
        logits = learner.comparison(features[:shots], one.support, features[shots:], query_mask=None, unlabelled=None)
        expected = without_absent_classes(logits, one.support)
        torch.testing.assert_close(outcome.query_logits[i][real[shots:]], expected[real[shots:]])
        means.append(twin.layers[0](x[real]).mean(0))
    torch.testing.assert_close(learner.model.norms[0].running_mean, 0.1 * torch.stack(means).mean(0))


def test_unlabelled_examples_count_in_the_batch() -> None:
    tasks = made_tasks(masked=False)
    more = torch.randn(2, 7, 4, dtype=torch.float64)
    shown = replace(tasks, support=replace(tasks.support, unlabelled=more))
    model = MLP((4,), None, [8], norm="running").double()
    learner = made(model, comparison=SoftKMeans())
    learner.train().meta_loss(shown)
    x = torch.cat([tasks.support.x, tasks.query.x, more], 1)
    torch.testing.assert_close(model.norms[0].running_mean, 0.1 * model.layers[0](x).mean((0, 1)))


def test_unlabelled_examples_are_refused_by_name() -> None:
    support = Examples(torch.randn(2, 4, 4), torch.arange(2).repeat(2, 2), None, 2)
    with pytest.raises(UserError, match="Cosine does not use unlabelled"):
        made().adapt(support, torch.randn(2, 3, 4))


@pytest.mark.parametrize("algorithm", ["prototypes", "feat", "meta_baseline"])
def test_a_run_trains_at_other_ways_than_it_tests(algorithm: str, tmp_path: Path) -> None:
    more = ["algorithm.regime.classification_steps=3"] if algorithm == "meta_baseline" else []
    record = trained(tmp_path, f"algorithm={algorithm}", "episode.train.ways=5", *more)
    assert record["config"]["episode"]["train"]["ways"] == 5
    assert record["test"]["ways"] == 3


def test_a_regime_of_nothing_leaves_everything_as_it_came() -> None:
    learner = made(regime=Regime(learns=False))
    assert not learner.learns
    assert made().learns
    y = torch.arange(2).repeat(3, 2)
    outcome = learner.meta_loss(Tasks(*(Examples(torch.randn(3, 4, 4), y, None, 2) for _ in range(2)), torch.arange(3)))
    outcome.loss.backward()
    assert outcome.loss > 0
    gradients = [parameter.grad for parameter in learner.parameters()]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)  # type: ignore[union-attr]


def test_where_nothing_is_learned_running_averages_stay() -> None:
    learner = made(MLP((4,), None, [8], norm="running").double(), regime=Regime(learns=False))
    before = copy.deepcopy(dict(learner.model.named_buffers()))
    learner.train().meta_loss(made_tasks(masked=False))
    assert all(torch.equal(value, before[name]) for name, value in learner.model.named_buffers())


def test_where_nothing_is_learned_no_parameter_is_needed() -> None:
    """A run takes one outer step, which changes no answer."""
    learner = made(torch.nn.Identity(), comparison=Euclidean(), regime=Regime(learns=False))
    outcome = learner.meta_loss(made_tasks(masked=False))
    outcome.loss.backward()
    gradients = [parameter.grad for parameter in learner.parameters()]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)  # type: ignore[union-attr]


def test_the_auxiliary_loss_is_of_transformed_features() -> None:
    tasks = made_tasks(masked=False)
    comparison = SetToSet(Embedding(8, None))
    learner = made(comparison=comparison, transform=UnitLength()).double()
    assert isinstance(comparison, AuxiliaryLoss)
    with torch.no_grad():
        support, query = (torch.nn.functional.normalize(learner.model(side.x[0])) for side in (tasks.support, tasks.query))
        one = tasks.map(lambda t: t[0])
        expected = comparison.auxiliary_loss(support, one.support, query, one.query)
        whole = learner.meta_loss(tasks).per_step[0, 0]
        comparison.balance = 0.0
        torch.testing.assert_close(whole - learner.meta_loss(tasks).per_step[0, 0], expected)


def test_statistics_of_a_meta_training_that_does_not_come_are_refused() -> None:
    with pytest.raises(UserError, match=r"Centred needs .* algorithm/regime=none .* algorithm/transform=unit_length"):
        made(transform=Centred, regime=Regime(learns=False))
    assert made(transform=UnitLength(), regime=Regime(learns=False))


@pytest.mark.parametrize("padded", ["support", "query"])
def test_padding_of_one_side_does_not_count_where_both_are_one_batch(padded: str) -> None:
    """As it would not if the other side said that all of its examples are real."""
    tasks = replace(made_tasks(masked=False), classes=torch.tensor([[0, 1], [2, 3]]))
    side, other = getattr(tasks, padded), "query" if padded == "support" else "support"
    ones = torch.ones(2, 6, dtype=torch.bool)
    masked = replace(tasks, **{padded: replace(side, mask=ones & (torch.arange(6) < 5))})
    told = replace(masked, **{other: replace(getattr(tasks, other), mask=ones)})
    regimes = {"episodes": Regime(), "classes": Regime(None)}
    for name, regime in regimes.items():
        learner = made(comparison=SetToSet(Embedding(8, None)), regime=regime, classes=4).double()
        found, expected, whole = (learner.meta_loss(each).loss for each in (masked, told, tasks))
        torch.testing.assert_close(found, expected, msg=name)
        assert (whole - expected).abs() > 1e-6
