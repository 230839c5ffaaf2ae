"""Where a task's head starts."""

from functools import partial

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.inner.head_init import Fresh, FromPrototypes, HeadInit, Learned, Shared, Zero
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient, Nothing, Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import Adapted, All, Body, Head
from metaloop.inner.selection.context import Context
from metaloop.inner.selection.low_rank import LowRank
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError, TaskLoss
from metaloop.types import Examples, Tasks

PARAMS = {"body.weight": torch.ones(2, 2), "head.weight": torch.randn(3, 2), "head.bias": torch.randn(3)}


def made_learner(
    head_init: HeadInit,
    adapted: Adapted | None = None,
    *,
    outputs: int = 5,
    loss: TaskLoss | None = None,
    meta_gradient: MetaGradient | None = None,
    over_tasks: object = None,
) -> GradientLearner:
    torch.manual_seed(0)
    return GradientLearner(
        MLP((4,), outputs, hidden=[8]),
        loss or CrossEntropy(),
        adapted or All(),
        partial(GradientDescent, lr=0.1),
        meta_gradient or Unrolled(),
        LastStep(),
        head_init,
        over_tasks or Loop(),  # type: ignore[arg-type]
        steps=1,
    )


def made_examples(ways: int, shots: int, tasks: int = 2, *, first: int = 0) -> Tasks:
    y = torch.arange(ways).repeat_interleave(shots).expand(tasks, -1)
    random = torch.Generator().manual_seed(first)
    x = torch.randn(*y.shape, 4, generator=random)
    examples = Examples(x, y, None, ways)
    return Tasks(examples, examples, torch.arange(first, first + tasks))


def learner_start(learner: GradientLearner, support: Examples) -> dict[str, Tensor]:
    """The adapted parameters at the tasks' starts, stacked."""
    meta = {name: value.detach() for name, value in learner.meta_parameters().items()}
    starts = [learner.task.start(meta, one(support, i)) for i in range(len(support.y))]
    return {name: torch.stack([start[name] for start in starts]) for name in starts[0]}


def one(support: Examples, i: int) -> Examples:
    number = None if support.number is None else support.number[i]
    mask = None if support.mask is None else support.mask[i]
    return Examples(support.x[i], support.y[i], mask, support.ways, number)


@pytest.mark.parametrize("ways", [5, 3])
@pytest.mark.parametrize("masked", [False, True], ids=["all real", "masked"])
def test_a_prototype_head_answers_as_prototypical_networks_do(ways: int, masked: bool) -> None:
    learner, tasks = made_learner(FromPrototypes()), made_examples(ways, 3)
    support = tasks.support
    if masked:
        mask = torch.ones(2, 3 * ways, dtype=torch.bool)
        mask[0, 1] = mask[1, 3:5] = False
        mask[1, -3:] = False  # a class that is not there
        support = Examples(torch.where(mask[..., None], support.x, 1e6), support.y, mask, ways, support.number)
    reference = MetricLearner(MLP((4,), None, hidden=[8]), CrossEntropy(), Euclidean(), Loop())
    reference.model.load_state_dict({n: v for n, v in learner.model.state_dict().items() if "head" not in n})
    x = torch.randn(2, 6, 4)
    found, expected = learner.adapt(support).curve(x)[0], reference.adapt(support)(x)
    assert found.shape == expected.shape == (2, 6, ways)
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1))


def test_rows_of_ways_that_a_task_lacks_are_zero() -> None:
    start = learner_start(made_learner(FromPrototypes()), made_examples(3, 2).support)
    assert not start["head.weight"][:, 3:].any()
    assert not start["head.bias"][:, 3:].any()
    assert start["head.weight"][:, :3].any(-1).all()


def test_a_prototype_start_learns_features_and_never_the_head() -> None:
    learner, tasks = made_learner(FromPrototypes()), made_examples(5, 2)
    learner.meta_loss(tasks).loss.backward()
    still = {n for n, p in learner.named_parameters() if not p.grad.any()}  # type: ignore[union-attr]
    assert still == {"model.head.weight", "model.head.bias"}


def test_an_inner_gradient_takes_the_prototypes_for_given() -> None:
    """A step descends the loss in features and head apart, as it does at meta-test, where no graph connects the two."""
    learner, tasks = made_learner(FromPrototypes()), made_examples(5, 2)
    found = learner.meta_loss(tasks).query_logits
    torch.testing.assert_close(found, learner.adapt(tasks.support)(tasks.query.x))


@pytest.mark.parametrize("head_init", [Shared(), Zero()])
def test_all_classes_start_alike_and_their_order_cannot_matter(head_init: HeadInit) -> None:
    learner, tasks = made_learner(head_init), made_examples(5, 2)
    start = learner_start(learner, tasks.support)
    for value in (start["head.weight"], start["head.bias"]):
        assert (value == value[:, :1]).all()
    new = torch.tensor([2, 0, 1, 4, 3])  # class c is now called new[c]
    renamed = Examples(tasks.support.x, new[tasks.support.y], None, 5)
    x = torch.randn(2, 6, 4)
    torch.testing.assert_close(learner.adapt(renamed)(x)[..., new], learner.adapt(tasks.support)(x))


def test_a_shared_start_is_the_mean_row_and_learns() -> None:
    start = Shared().start(PARAMS, Examples(torch.zeros(1), torch.zeros(1), ways=3), lambda at: torch.zeros(1, 2))
    torch.testing.assert_close(start["head.weight"][1], PARAMS["head.weight"].mean(0))
    torch.testing.assert_close(start["head.bias"], PARAMS["head.bias"].mean().expand(3))
    assert start["body.weight"] is PARAMS["body.weight"]
    learner = made_learner(Shared())
    learner.meta_loss(made_examples(5, 2)).loss.backward()
    gradient = learner.model.head.weight.grad
    assert gradient.any()  # type: ignore[union-attr]
    torch.testing.assert_close(gradient, gradient[:1].expand_as(gradient))  # type: ignore[index]


def test_fresh_starts_are_normal_at_the_parameters_own_scale() -> None:
    torch.manual_seed(0)
    params = {
        "a": 3 * torch.randn(200, 50),
        "b": 0.1 * torch.rand(100, 100) - 0.05,
        "ones": torch.ones(7),
        "one": torch.ones(1),
    }
    support = Examples(torch.zeros(1), torch.zeros(1), number=torch.tensor(3))
    start = Fresh().start(params, support, lambda at: torch.zeros(1))
    for name in ("a", "b"):
        assert start[name].mean().abs() < 0.05 * params[name].std()
        torch.testing.assert_close(start[name].std(), params[name].std(), rtol=0.03, atol=0)
        numbers = start[name].flatten() / start[name].std()
        assert ((numbers.abs() < 1).double().mean() - 0.6827).abs() < 0.02
    a, b = start["a"].flatten(), start["b"].flatten()
    assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.05  # drawn apart
    assert torch.equal(start["ones"], params["ones"])
    assert torch.equal(start["one"], params["one"])


def test_fresh_starts_depend_on_the_tasks_number_alone() -> None:
    learner = made_learner(Fresh(), meta_gradient=Nothing())
    first, second = (learner_start(learner, made_examples(5, 2, first=n).support) for n in (0, 1))
    for name in ("layers.0.weight", "head.weight", "head.bias"):
        assert torch.equal(first[name][1], second[name][0])  # task 1, by other support examples
        assert (first[name][0] != first[name][1]).all()
    found = [made_learner(Fresh(), meta_gradient=Nothing(), over_tasks=o) for o in (Loop(), Vmap())]
    tasks = made_examples(5, 2)
    answers = [each.adapt(tasks.support).curve(tasks.query.x) for each in found]
    torch.testing.assert_close(*answers)


def test_what_starts_fresh_is_not_learned() -> None:
    learner = made_learner(Fresh(), Head())
    assert set(learner.meta_parameters()) == {"model.layers.0.weight", "model.layers.0.bias"}
    with pytest.raises(UserError, match="nothing is left for the outer loop to learn"):
        made_learner(Fresh())
    assert made_learner(Fresh(), meta_gradient=Nothing()).meta_parameters()


def test_starts_that_cannot_be_are_refused() -> None:
    for init, name in ((FromPrototypes(), "prototypes"), (Shared(), "shared"), (Zero(), "zero")):
        with pytest.raises(UserError, match=rf"algorithm\.head_init={name} needs a head that adapts"):
            made_learner(init, Body())
        with pytest.raises(UserError, match=rf"algorithm\.head_init={name} needs a head that adapts"):
            made_learner(init, Context(2, r"layers\.0$", "concatenate"))
    for init in (FromPrototypes(), Shared()):
        init.check(PARAMS)
        with pytest.raises(UserError, match="one linear layer"):
            init.check({"head.0.weight": torch.ones(3, 2)})
        with pytest.raises(UserError, match="one linear layer"):
            init.check({"head.bias": torch.ones(3)})
        with pytest.raises(UserError, match="one linear layer"):
            init.check({"head.weight": torch.ones(3, 2, 1, 1)})
        with pytest.raises(UserError, match="regression"):
            made_learner(init, outputs=1, loss=MeanSquaredError())
    with pytest.raises(UserError, match="head with a bias"):
        FromPrototypes().check({"head.weight": torch.ones(3, 2)})
    for init in (Learned(), Zero()):
        made_learner(init, outputs=1, loss=MeanSquaredError())


def test_prototypes_go_with_adapters() -> None:
    learner = made_learner(FromPrototypes(), LowRank(2))
    tasks = made_examples(5, 2)
    assert learner.adapt(tasks.support)(tasks.query.x).shape == (2, 10, 5)
