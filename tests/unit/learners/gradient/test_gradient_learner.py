"""The gradient learner's own arguments."""

import functools

import pytest
import torch

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.inner.head_init import Learned, Zero
from metaloop.inner.meta_gradients.meta_gradient import Displacement, Unrolled
from metaloop.inner.objective import LastStep, WeightedSum
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All, Body
from metaloop.learners.gradient.augmentation import GaussianNoise
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.support_loss import LearnedWeights
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples


def made_learner(**arguments: object) -> GradientLearner:
    chosen = {
        "model": MLP((4,), 5, hidden=[8]),
        "loss": CrossEntropy(),
        "adapted": All(),
        "rule": functools.partial(GradientDescent, lr=0.1),
        "meta_gradient": Unrolled(),
        "objective": LastStep(),
        "head_init": Learned(),
        "over_tasks": Loop(),
        "steps": 2,
    }
    return GradientLearner(**(chosen | arguments))  # type: ignore[arg-type]


def made_support(ways: int = 5, shots: int = 2) -> Examples:
    y = torch.arange(ways).repeat_interleave(shots).expand(3, -1)
    return Examples(torch.randn(*y.shape, 4), y, None, ways)


@pytest.mark.parametrize("key", ["steps", "eval_steps", "inner_batch"])
def test_counts_below_one_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.{key}=0: at least 1"):
        made_learner(**{key: 0})


def test_compositions_that_cannot_work_are_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"algorithm\.steps=2"):
        made_learner(objective=WeightedSum([1.0, 1.0, 1.0]))
    with pytest.raises(UserError, match="head_init=zero"):
        made_learner(adapted=Body(), head_init=Zero())


def test_the_adaptation_curve_has_a_point_a_step_and_the_start() -> None:
    support, x = made_support(), torch.randn(3, 6, 4)
    learner = made_learner(eval_steps=4)
    curve = learner.adapt(support).curve(x)
    assert curve.shape == (5, 3, 6, 5)
    torch.testing.assert_close(curve[0], learner.model(x.flatten(0, 1)).view(3, 6, 5))
    assert torch.equal(curve[2], made_same(learner, steps=2).adapt(support)(x))
    assert len(made_learner().adapt(support).iterates) == 3


def made_same(learner: GradientLearner, *, steps: int) -> GradientLearner:
    other = made_learner(eval_steps=steps)
    other.load_state_dict(learner.state_dict())
    return other


def test_a_head_for_more_ways_answers_the_tasks_own() -> None:
    learner = made_learner()
    learner.check(3)
    assert learner.adapt(made_support(ways=3))(torch.randn(3, 6, 4)).shape == (3, 6, 3)
    with pytest.raises(UserError, match=r"episode\.ways=6.* 5 ways"):
        learner.check(6)


def test_inner_batches_cycle_over_all_examples_and_mix_classes() -> None:
    learner = made_learner(inner_batch=4)
    support = made_support().map(lambda t: t[0])
    batches = [learner.task._batch(support, step) for step in range(5)]
    assert [len(batch.y) for batch in batches] == [4] * 5
    inputs = torch.cat([batch.x for batch in batches])  # two rounds of ten examples
    for round_ in (inputs[:10], inputs[10:]):
        assert {tuple(row.tolist()) for row in round_} == {tuple(row.tolist()) for row in support.x}
    assert all(len(batch.y.unique()) >= 3 for batch in batches)
    assert made_learner(inner_batch=10).task._batch(support, 1) is support


def test_the_meta_parameters_are_those_that_can_be_trained() -> None:
    model = MLP((4,), 5, hidden=[8])
    model.layers.requires_grad_(False)
    learner = made_learner(model=model)
    assert list(learner.meta_parameters()) == ["model.head.weight", "model.head.bias"]
    learner.double()
    assert {value.dtype for value in learner.meta_parameters().values()} == {torch.float64}


def test_prototypes_need_two_ways() -> None:
    learner = MetricLearner(MLP((4,), None, hidden=[8]), CrossEntropy(), Euclidean(), Loop())
    learner.check(20)
    with pytest.raises(UserError, match=r"episode\.ways=1"):
        learner.check(1)


def test_prototypes_are_nearest_class_means() -> None:
    learner = MetricLearner(MLP((4,), None, hidden=[8]), CrossEntropy(), Euclidean(), Loop())
    support, x = made_support(), torch.randn(3, 6, 4)
    means = learner.model(support.x.flatten(0, 1)).view(3, 5, 2, 8).mean(2)
    distances = torch.cdist(learner.model(x.flatten(0, 1)).view(3, 6, 8), means) ** 2
    torch.testing.assert_close(learner.adapt(support)(x), -distances, rtol=1e-4, atol=1e-5)


def test_displacement_refuses_to_learn_more_than_a_start() -> None:
    for key, part in (("support_loss", LearnedWeights(4, 2.0)), ("augmentation", GaussianNoise(0.1))):
        with pytest.raises(UserError, match=rf"displacement cannot learn algorithm/{key}"):
            made_learner(meta_gradient=Displacement(), **{key: part})
