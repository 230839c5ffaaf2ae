"""Pretraining on all classes, and fine-tuning with what does not change computed once."""

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metaloop.config.build import build_learner
from metaloop.data.pool import pool_from_arrays
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.inner.head_init import Fresh, Learned, Zero
from metaloop.inner.meta_gradients.meta_gradient import FirstOrder
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.learned_rates import LearnedRate
from metaloop.inner.rules.optimizers import Momentum
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All, Body, Head, Pattern
from metaloop.learners.gradient.adaptation import curve_steps
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.gradient_task import GradientTask
from metaloop.learners.gradient.pretrained import Pretrained
from metaloop.learners.learner import Learner
from metaloop.models.cosine_head import CosineHead
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError
from metaloop.types import EpisodeSpec, Examples, Tasks

CLASSES, WAYS = 7, 3


def made(**arguments: object) -> Pretrained:
    torch.manual_seed(0)
    chosen = {
        "model": MLP((4,), WAYS, hidden=[8]),
        "loss": CrossEntropy(),
        "classes": CLASSES,
        "adapted": Head(),
        "rule": functools.partial(GradientDescent, lr=0.5),
        "head_init": Zero(),
        "over_tasks": Loop(),
        "eval_steps": 3,
    }
    return Pretrained(**(chosen | arguments)).double()  # type: ignore[arg-type]


def made_tasks(masked: bool = False) -> Tasks:
    """Two three-way tasks, two shots, two queries; with ``masked`` the second has no third class."""
    random = torch.Generator().manual_seed(1)
    y = torch.arange(WAYS).repeat_interleave(2).expand(2, -1)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2]) if masked else None
    parts = [Examples(torch.randn(2, 6, 4, generator=random, dtype=torch.float64), y, mask, WAYS) for _ in range(2)]
    return Tasks(*parts, torch.arange(2), torch.tensor([[4, 0, 6], [1, 4, -1 if masked else 2]]))


@pytest.mark.parametrize("masked", [False, True], ids=["all real", "masked"])
def test_pretraining_is_cross_entropy_over_all_classes(masked: bool) -> None:
    tasks, learner = made_tasks(masked), made()
    outcome = learner.meta_loss(tasks)
    outcome.loss.backward()
    found = [p.grad for p in (learner.model.layers[0].weight, learner.classes_head.weight)]
    w, b, head = learner.model.layers[0].weight, learner.model.layers[0].bias, learner.classes_head
    losses = []
    for task in range(2):
        names, kept = tasks.classes[task].tolist(), 2 * (WAYS - (masked and task == 1))
        x = torch.cat([tasks.support.x[task, :kept], tasks.query.x[task, :kept]])
        logits = torch.relu(x @ w.T + b) @ head.weight.T + head.bias
        truth = torch.tensor([names[i // 2] for i in range(kept)] * 2)
        losses.append(F.cross_entropy(logits, truth))
        own = logits[kept:, [name for name in names if name >= 0]]
        torch.testing.assert_close(outcome.query_logits[task, :kept, : own.shape[1]], own)
    if masked:
        assert (outcome.query_logits[1].argmax(-1) < 2).all()
    torch.testing.assert_close(outcome.loss, torch.stack(losses).mean())
    torch.testing.assert_close(outcome.per_step[:, 0], torch.stack(losses))
    expected = torch.autograd.grad(torch.stack(losses).mean(), [w, head.weight])
    torch.testing.assert_close(found, list(expected))


def test_fine_tuning_is_momentum_on_a_new_head() -> None:
    """The same numbers as torch's own optimiser on the body's features."""
    learner = made(rule=functools.partial(Momentum, lr=0.1, momentum=0.9, weight_decay=0.01), eval_steps=20, inner_batch=2)
    tasks = made_tasks()
    answers = learner.eval().adapt(tasks.support).curve(tasks.query.x)
    for task in range(2):
        features, queries = (
            torch.relu(learner.model.layers[0](part.x[task])).detach() for part in (tasks.support, tasks.query)
        )
        head = nn.Linear(8, WAYS).double()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        sgd = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        for step in range(20):
            batch = learner.task._batch(Examples(features, tasks.support.y[task]), step)
            sgd.zero_grad()
            F.cross_entropy(head(batch.x), batch.y).backward()
            sgd.step()
        torch.testing.assert_close(answers[-1, task], head(queries).detach())
    assert not answers[0].any()


def test_what_pretraining_named_is_forgotten() -> None:
    tasks, learner = made_tasks(), made().eval()
    expected = learner.adapt(tasks.support)(tasks.query.x)
    with torch.no_grad():
        learner.classes_head.weight.add_(1.0)
    assert torch.equal(learner.adapt(tasks.support)(tasks.query.x), expected)
    with torch.no_grad():
        learner.model.layers[0].weight.mul_(2.0)
    assert not torch.allclose(learner.adapt(tasks.support)(tasks.query.x), expected)


def anil(**arguments: object) -> GradientLearner:
    torch.manual_seed(0)
    rule = functools.partial(GradientDescent, lr=0.5)
    chosen = {"model": MLP((4,), WAYS, hidden=[8]), "steps": 3, "head_init": Learned()} | arguments
    rest = {"loss": CrossEntropy(), "adapted": Head(), "rule": rule, "meta_gradient": FirstOrder(), "objective": LastStep()}
    return GradientLearner(**(rest | {"over_tasks": Loop()} | chosen)).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("masked", [False, True], ids=["all real", "masked"])
@pytest.mark.parametrize("norm", ["none", "layer", "running", "batch", "support"])
@pytest.mark.parametrize(
    "make",
    [
        made,
        functools.partial(made, head_init=Fresh(), cosine_scale=5.0, over_tasks=Vmap()),
        functools.partial(made, adapted=Pattern(r"head\.(weight|bias)"), inner_batch=2),
        anil,
        functools.partial(anil, adapted=Pattern(r"head\.weight"), over_tasks=Vmap()),
    ],
)
def test_features_computed_once_give_the_same_answers(
    make: Callable[..., Learner], norm: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = made_tasks(masked)
    learner = make(model=MLP((4,), WAYS, hidden=[8], norm=norm)).train()
    learner.meta_loss(tasks)  # moves running averages
    learner.eval()
    once = learner.task.on_features() is not None
    assert once is (norm not in ("batch", "support") or learner.task.inner_batch is None)
    found = learner.adapt(tasks.support).curve(tasks.query.x, tasks.query.mask)
    monkeypatch.setattr(GradientTask, "on_features", lambda self: None)
    expected = learner.adapt(tasks.support).curve(tasks.query.x, tasks.query.mask)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(found[-1], found[0])


def test_the_body_runs_once_for_each_set() -> None:
    tasks, learner = made_tasks(), made(eval_steps=50).eval()
    seen: list[int] = []
    learner.model.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    learner.adapt(tasks.support).curve(tasks.query.x)
    assert seen == [6] * 4  # two tasks' support sets, then their queries


@pytest.mark.parametrize("change", ["training", "body adapts", "own head"])
def test_features_that_may_change_are_computed_anew(change: str) -> None:
    learner = made(adapted=All()) if change == "body adapts" else anil()
    learner.train(change == "training")
    if change == "own head":
        learner.model.head = nn.Sequential(nn.Linear(8, WAYS))
    assert learner.task.on_features() is None


def test_regression_goes_on_from_the_network_that_fits_all_tasks() -> None:
    model = MLP((1,), 1, hidden=[8])
    learner = made(model=model, loss=MeanSquaredError(), classes=None, adapted=All(), head_init=Learned(), eval_steps=5)
    assert isinstance(learner.rule, GradientDescent)
    learner.rule.lr = 0.05
    x = torch.randn(2, 6, 1, dtype=torch.float64)
    tasks = Tasks(Examples(x[:, :3], x[:, :3].sin()), Examples(x[:, 3:], x[:, 3:].sin()), torch.arange(2))
    outcome = learner.meta_loss(tasks)
    torch.testing.assert_close(outcome.loss, F.mse_loss(model(x.flatten(0, 1)), x.sin().flatten(0, 1)))
    assert {name for name, p in learner.named_parameters() if p.requires_grad} == {
        f"model.{n}" for n, _ in model.named_parameters()
    }
    curve = learner.eval().adapt(tasks.support).curve(tasks.support.x)
    torch.testing.assert_close(curve[0], model(x[:, :3].flatten(0, 1)).detach().view(2, 3, 1))
    losses = ((curve - tasks.support.y) ** 2).mean((1, 2, 3))
    assert (losses[1:] < losses[:-1]).all()


def test_running_averages_move_while_pretraining_alone() -> None:
    tasks, learner = made_tasks(), made(model=MLP((4,), WAYS, hidden=[8], norm="running"))
    before = learner.model.norms[0].running_mean.clone()
    learner.eval()
    learner.meta_loss(tasks)
    learner.adapt(tasks.support)(tasks.query.x)
    assert torch.equal(learner.model.norms[0].running_mean, before)
    learner.train()
    learner.meta_loss(tasks)
    inputs = torch.cat([tasks.support.x, tasks.query.x], 1).flatten(0, 1)
    expected = 0.1 * learner.model.layers[0](inputs).mean(0)  # of all the meta-batch
    torch.testing.assert_close(learner.model.norms[0].running_mean, expected.detach())


def test_cosine_heads_see_directions_alone() -> None:
    head = CosineHead(4, 3, scale=7.0).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = 7 * F.cosine_similarity(x[:, None], head.weight[None], dim=-1)
    torch.testing.assert_close(head(x), expected)
    torch.testing.assert_close(head(10 * x), expected)
    zero = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(head(zero).sum(), zero)[0]).all()
    learner = made(cosine_scale=7.0, head_init=Learned())
    assert all(isinstance(each, CosineHead) for each in (learner.model.head, learner.classes_head))
    assert [len(each.weight) for each in (learner.model.head, learner.classes_head)] == [WAYS, CLASSES]


REFUSED = {
    "body": ({"adapted": Body(), "head_init": Learned()}, r"algorithm\.adapted: .*whole head must adapt"),
    "half a head": ({"adapted": Pattern("weight")}, r"whole head must adapt"),
    "rates": ({"rule": functools.partial(LearnedRate, lr=0.1, granularity="tensor")}, r"algorithm\.rule has meta-parameters"),
    "no steps": ({"eval_steps": 0}, r"algorithm\.eval_steps=0: at least 1"),
    "no passes": ({"eval_steps": None}, r"algorithm\.eval_steps=None and algorithm\.eval_passes=None: give one"),
    "both": ({"eval_passes": 2}, r"algorithm\.eval_steps=3 and algorithm\.eval_passes=2: give one"),
    "no batch": ({"inner_batch": 0}, r"algorithm\.inner_batch=0: at least 1"),
    "no numbers": ({"classes": None}, r"num_classes"),
    "zero vectors": ({"cosine_scale": 1.0}, r"algorithm\.head_init=zero"),
    "scale": ({"cosine_scale": 0.0, "head_init": Learned()}, r"algorithm\.cosine_scale=0\.0: above 0"),
    "cosine values": ({"cosine_scale": 1.0, "loss": MeanSquaredError()}, r"cosine heads are for classification"),
    "no linear head": ({"model": nn.Sequential(nn.Linear(4, 3)), "adapted": All(), "head_init": Learned()}, r"model: .*head"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_training(case: str) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        made(**arguments)


def test_more_ways_than_the_head_has_and_tasks_without_names_are_refused() -> None:
    learner = made()
    learner.check(WAYS)
    with pytest.raises(UserError, match=r"episode\.ways=4: .*episode\.train\.ways=4"):
        learner.check(4)
    with pytest.raises(UserError, match=r"Tasks\.classes"):
        learner.meta_loss(dataclasses.replace(made_tasks(), classes=None))


@pytest.mark.parametrize(("rotations", "classes"), [("none", 5), ("augment", 5), ("classes", 20)])
def test_the_learner_hears_how_many_classes_there_are(rotations: str, classes: int) -> None:
    images = {str(n): torch.zeros(3, 1, 16, 16, dtype=torch.uint8) for n in range(5)}
    algorithm = {
        "_target_": "metaloop.learners.gradient.pretrained.Pretrained",
        "adapted": {"_target_": "metaloop.inner.selection.adapted.Head"},
        "rule": {"_target_": "metaloop.inner.rules.rule.GradientDescent", "_partial_": True, "lr": 0.1},
        "head_init": {"_target_": "metaloop.inner.head_init.Zero"},
        "over_tasks": {"_target_": "metaloop.inner.execution.over_tasks.Loop"},
        "eval_steps": 1,
    }
    config = {"seed": 0, "algorithm": algorithm, "model": {"_target_": "metaloop.models.mlp.MLP", "hidden": [4]}}
    learner = build_learner(config, pool_from_arrays(images, rotations=rotations), EpisodeSpec(3, 1, 1))
    assert isinstance(learner.classes_head, nn.Linear)
    assert learner.classes_head.out_features == classes


def test_long_adaptation_is_shown_at_eleven_points() -> None:
    assert [curve_steps(steps) for steps in (1, 3, 10)] == [(0, 1), (0, 1, 2, 3), tuple(range(11))]
    assert curve_steps(100) == tuple(range(0, 101, 10))
    for steps in range(11, 60):
        shown = curve_steps(steps)
        assert (len(set(shown)), shown[0], shown[-1]) == (11, 0, steps)
    tasks, learner = made_tasks(), made(eval_steps=25).eval()
    predictor, early = learner.adapt(tasks.support), made(eval_steps=5).eval().adapt(tasks.support)
    assert predictor.curve_steps == curve_steps(25)
    torch.testing.assert_close(predictor.curve(tasks.query.x)[predictor.curve_steps.index(5)], early(tasks.query.x))


def test_a_predictor_answers_as_the_end_of_its_curve() -> None:
    tasks, learner = made_tasks(), made().eval()
    predictor = learner.adapt(tasks.support)
    torch.testing.assert_close(predictor(tasks.query.x), predictor.curve(tasks.query.x)[-1])
