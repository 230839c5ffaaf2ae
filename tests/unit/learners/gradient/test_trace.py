"""One task followed through its inner steps, against what can be worked out by hand."""

from functools import partial

import pytest
import torch
from torch import nn

from metaloop.inner.autodiff import Eager
from metaloop.inner.execution.over_tasks import Loop
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradients.meta_gradient import Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All, Body, Head
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.trace import Stepwise, features, moving_layers, stepwise, trace, walk
from metaloop.metrics.similarity import linear_cka, mean_cosine
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError, TaskLoss
from metaloop.types import Examples

RATE = 0.1


class Line(nn.Module):
    """A head and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[3.0, 4.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def stepwise_of(model: nn.Module, loss: TaskLoss, adapted: object, steps: int) -> Stepwise:
    learner = GradientLearner(
        model, loss, adapted, partial(GradientDescent, lr=RATE), Unrolled(), LastStep(), Learned(), Loop(), steps
    )
    found = stepwise(learner)
    assert found is not None
    return found


def classified(examples: int, mask: torch.Tensor | None = None) -> Examples:
    return Examples(torch.randn(examples, 4), torch.arange(examples) % 3, mask, 3)


def test_one_step_on_a_linear_model_is_as_by_hand() -> None:
    of = stepwise_of(Line(), MeanSquaredError(), All(), 1)
    support = Examples(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0]]))  # loss (w1 - 1)^2, gradient (4, 0) at w = (3, 4)
    found, layers = trace(of, support, support, [0, 1])
    assert layers == ("head",)
    assert list(moving_layers(of)) == ["head"]
    after = 3 - RATE * 4
    expected = {
        "distance": [0.0, 0.4],
        "relative_distance": [0.0, 0.4 / 5],
        "cosine": [1.0, (3 * after + 16) / (5 * (after**2 + 16) ** 0.5)],
        "gradient_norm": [4.0, 2 * (after - 1)],
    }
    for name, values in expected.items():
        torch.testing.assert_close(
            found.movement[name][:, 0], torch.tensor(values, dtype=torch.float64), msg=name, atol=1e-6, rtol=1e-6
        )
    assert found.inner_loss.tolist() == pytest.approx([4.0, (after - 1) ** 2])
    assert found.answers.flatten().tolist() == pytest.approx([3.0, after])


def test_a_start_at_zero_has_no_relative_distance_and_no_direction() -> None:
    model = Line()
    nn.init.zeros_(model.head.weight)
    support = Examples(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0]]))
    found, _ = trace(stepwise_of(model, MeanSquaredError(), All(), 1), support, support, [0, 1])
    assert found.movement["relative_distance"].isnan().all()
    assert found.movement["cosine"].isnan().all()
    assert found.movement["distance"][1].item() == pytest.approx(2 * RATE)


def test_held_parameters_stay_and_the_others_adapt_as_if_they_alone_were_chosen() -> None:
    model, support = MLP((4,), 3, [5]), classified(6)
    of = stepwise_of(model, CrossEntropy(), All(), 4)
    alone = {"head": stepwise_of(model, CrossEntropy(), Head(), 4), "body": stepwise_of(model, CrossEntropy(), Body(), 4)}
    for part, held in (("head", of.body), ("body", of.head)):
        *_, end = walk(of, support, 4, held)
        *_, expected = walk(alone[part], support, 4)
        assert set(held) | set(expected) == set(end)
        for name in held:
            torch.testing.assert_close(end[name], model.get_parameter(name).detach())
        for name, value in expected.items():
            torch.testing.assert_close(end[name], value)
            assert not value.equal(model.get_parameter(name))


def test_an_unheld_walk_is_the_problems_own() -> None:
    of, support = stepwise_of(MLP((4,), 3, [5]), CrossEntropy(), All(), 3), classified(6)
    own = of.problem.iterates(of.meta, support, 3, Eager(), second_order=False)
    for mine, theirs in zip(walk(of, support, 3), own, strict=True):
        assert all(mine[name].equal(theirs[name]) for name in theirs)


def test_where_the_head_alone_adapts_representations_below_it_stay() -> None:
    of = stepwise_of(MLP((4,), 3, [5]), CrossEntropy(), Head(), 5)
    found, layers = trace(of, classified(6), classified(9), [0, 5])
    assert layers == ("layers.0", "head")
    assert found.similarity["cka"][:, 0].tolist() == pytest.approx([1, 1])
    assert found.similarity["cosine"][:, 0].tolist() == pytest.approx([1, 1])
    assert found.similarity["cka"][1, 1] < 0.9999


@pytest.mark.parametrize("norm", ["none", "batch", "support"])
def test_padded_queries_are_in_no_representation(norm: str) -> None:
    of = stepwise_of(MLP((4,), 3, [5], norm=norm), CrossEntropy(), All(), 2)
    support, query = classified(6), classified(9)
    padded = Examples(
        torch.cat([query.x, 100 * torch.rand(3, 4)]), torch.cat([query.y, torch.zeros(3, dtype=torch.int64)]), None, 3
    )
    masked = Examples(padded.x, padded.y, torch.arange(12) < 9, 3)
    expected, _ = trace(of, support, query, [0, 2])
    found, _ = trace(of, support, masked, [0, 2])
    unmasked, _ = trace(of, support, padded, [0, 2])
    for name, values in expected.similarity.items():
        torch.testing.assert_close(found.similarity[name], values, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(unmasked.similarity[name], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "support"])
def test_representations_are_those_of_the_queries(norm: str) -> None:
    of = stepwise_of(MLP((4,), 3, [5], norm=norm), CrossEntropy(), All(), 2)
    found, layers = trace(of, classified(6), classified(9), [0, 2])
    assert layers[-1] == "head"
    torch.testing.assert_close(found.similarity["cosine"][1, -1], mean_cosine(found.answers[0], found.answers[1]))
    torch.testing.assert_close(found.similarity["cka"][1, -1], linear_cka(found.answers[0], found.answers[1]))


def test_features_are_what_the_head_sees() -> None:
    model = MLP((4,), 3, [5], norm="support")
    of = stepwise_of(model, CrossEntropy(), All(), 1)
    support, query = classified(6), classified(9)
    own, theirs = features(of.task.model, of.meta, of.problem.task.start(of.meta, support), support, query.x, None)
    assert (own.shape, theirs.shape) == ((6, 5), (9, 5))
    answers = of.task.answer(of.meta, dict(model.named_parameters()), support, query.x, None, 0)
    torch.testing.assert_close(theirs @ model.head.weight.T + model.head.bias, answers)
