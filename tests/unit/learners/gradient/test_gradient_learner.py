"""The gradient learner's own arguments, and losses and baselines of tasks."""

import functools
import re

import pytest
import torch
import torch.nn.functional as F

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
from metaloop.learners.metric.metric_learner import Metric
from metaloop.models.mlp import MLP
from metaloop.problems.baselines import nearest_neighbour, support_mean
from metaloop.problems.task_loss import (
    CrossEntropy,
    MeanSquaredError,
    NegativeLogLikelihood,
    TaskLoss,
    restricted,
    without_absent_classes,
)
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


def test_inner_batches_take_turns_over_all_examples_and_mix_classes() -> None:
    learner = made_learner(inner_batch=4)
    support = made_support().map(lambda t: t[0])
    turns = [learner.task._turn(support, step) for step in range(5)]
    assert [len(turn.y) for turn in turns] == [4] * 5
    seen = torch.cat([turn.x for turn in turns])  # two rounds of ten examples
    for round_ in (seen[:10], seen[10:]):
        assert {tuple(row.tolist()) for row in round_} == {tuple(row.tolist()) for row in support.x}
    assert all(len(turn.y.unique()) >= 3 for turn in turns)
    assert made_learner(inner_batch=10).task._turn(support, 1) is support


def test_the_meta_parameters_are_those_that_can_be_trained() -> None:
    model = MLP((4,), 5, hidden=[8])
    model.layers.requires_grad_(False)
    learner = made_learner(model=model)
    assert list(learner.meta_parameters()) == ["model.head.weight", "model.head.bias"]
    learner.double()
    assert {value.dtype for value in learner.meta_parameters().values()} == {torch.float64}


def test_prototypes_need_two_ways() -> None:
    learner = Metric(MLP((4,), None, hidden=[8]), CrossEntropy(), Euclidean(), Loop())
    learner.check(20)
    with pytest.raises(UserError, match=r"episode\.ways=1"):
        learner.check(1)


def test_prototypes_are_nearest_class_means() -> None:
    learner = Metric(MLP((4,), None, hidden=[8]), CrossEntropy(), Euclidean(), Loop())
    support, x = made_support(), torch.randn(3, 6, 4)
    means = learner.model(support.x.flatten(0, 1)).view(3, 5, 2, 8).mean(2)
    distances = torch.cdist(learner.model(x.flatten(0, 1)).view(3, 6, 8), means) ** 2
    torch.testing.assert_close(learner.adapt(support)(x), -distances, rtol=1e-4, atol=1e-5)


def test_losses_are_means_over_real_examples() -> None:
    outputs, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    mask = torch.tensor([True, True, False, True])
    assert CrossEntropy()(outputs, Examples(outputs, y, None, 3)) == F.cross_entropy(outputs, y)
    torch.testing.assert_close(CrossEntropy()(outputs, Examples(outputs, y, mask, 3)), F.cross_entropy(outputs[mask], y[mask]))
    target = torch.randn(4, 3)
    torch.testing.assert_close(
        MeanSquaredError()(outputs, Examples(outputs, target, mask)), F.mse_loss(outputs[mask], target[mask])
    )
    assert CrossEntropy()(outputs, Examples(outputs, y, torch.zeros(4, dtype=torch.bool), 3)) == 0


def test_absent_classes_are_masked_and_values_pass() -> None:
    logits, y = torch.randn(2, 3), torch.tensor([0, 1])
    assert torch.equal(without_absent_classes(logits, Examples(logits, y, None, 3)), logits)
    found = without_absent_classes(logits, Examples(logits, y, torch.tensor([True, False]), 3))
    assert torch.equal(found[:, 0], logits[:, 0])
    assert (found[:, 1:] <= logits[:, :1] - 1e4).all()
    values = Examples(logits, logits, torch.tensor([True, False]))
    assert without_absent_classes(logits, values) is logits


@pytest.mark.parametrize(("loss", "shape"), [(MeanSquaredError(), (3, 1)), (NegativeLogLikelihood(), (3, 1, 2))])
def test_answers_are_not_broadcast_to_targets(loss: TaskLoss, shape: tuple[int, ...]) -> None:
    values, target = torch.rand(shape) + 0.1, torch.randn(3)
    assert loss(values, Examples(target, target[:, None])).isfinite()
    wanted = r"\(3,\)" if len(shape) == 2 else r"\(3, 2\)"
    with pytest.raises(UserError, match=rf"answers have the shape {re.escape(str(shape))} .* need {wanted}"):
        loss(values, Examples(target, target))


@pytest.mark.parametrize("size", [1.0, 1e5, 1e12, 1e37])
def test_what_is_not_present_wins_nowhere(size: float) -> None:
    logits = torch.tensor([[-3.0, 1.0, -2.0], [-2.0, -1.0, 3.0], [-1.0, -2.0, -3.0]]) * size
    present = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    shares = restricted(logits, present).softmax(-1)
    assert (shares.argmax(-1) == torch.tensor([1, 0, 0])).all()
    assert (shares[:2][~present[:2]] == 0).all()
    torch.testing.assert_close(shares[2], torch.full((3,), 1 / 3))
    assert restricted(logits, present).isfinite().all()
    assert restricted(logits.clamp(-6e4, 6e4).half(), present).isfinite().all()
    torch.testing.assert_close(torch.func.vmap(restricted)(logits, present), restricted(logits, present))


def test_what_is_not_present_has_no_derivative() -> None:
    present = torch.tensor([True, False, True])
    logits = torch.tensor([[-3e4, 1.0, -3e4 + 1], [2.0, 1.0, -3.0]], dtype=torch.float64, requires_grad=True)

    def value(logits: torch.Tensor) -> torch.Tensor:
        return restricted(logits, present).log_softmax(-1)[:, present]

    assert torch.autograd.gradcheck(value, logits)
    assert torch.autograd.gradgradcheck(value, logits)
    (found,) = torch.autograd.grad(value(logits)[:, 0].sum(), logits)
    (expected,) = torch.autograd.grad(logits[:, present].log_softmax(-1)[:, 0].sum(), logits)
    torch.testing.assert_close(found, expected)


def test_baselines() -> None:
    support = Examples(
        torch.tensor([[[0.0], [10.0], [20.0]]]), torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]]), 3
    )
    found = nearest_neighbour(support, torch.tensor([[[1.0], [9.0], [30.0]]]))
    assert found.argmax(-1).tolist() == [[2, 0, 0]]
    values = Examples(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]))
    assert support_mean(values, torch.zeros(1, 4, 1)).flatten().tolist() == [2.0] * 4


def test_displacement_refuses_to_learn_more_than_a_start() -> None:
    for key, part in (("support_loss", LearnedWeights(4, 2.0)), ("augmentation", GaussianNoise(0.1))):
        with pytest.raises(UserError, match=rf"displacement cannot learn algorithm/{key}"):
            made_learner(meta_gradient=Displacement(), **{key: part})
