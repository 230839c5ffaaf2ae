"""The contract of learners, for every learner of the table."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_tasks import WAYS, distance, made_model, made_tasks, meta_gradient
from members import IN_CONTEXT, LEARNERS, METRIC, OF_MAPS, OVER_TASKS, READERS, TRANSDUCTIVE, USING_UNLABELLED
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.learner import Learner
from metaloop.models.norm import MODES, Norm
from metaloop.types import Examples, Tasks
from pairwise import Row, covering, each_once

NORMS = [mode for mode in MODES if mode != "running"]  # tested below


HEADLESS = (*METRIC, *IN_CONTEXT)
ORDERED = tuple(name for name, build in READERS.items() if build(features=2, labels=2, outputs=2).ordered)


def made_learner(name: str, over_tasks: OverTasks | None = None, *, norm: str = "batch", model: str | None = None) -> Learner:
    head = None if name in HEADLESS else WAYS
    return LEARNERS[name](made_model(model or model_of(name), norm=norm, outputs=head), over_tasks or Loop())


def model_of(name: str) -> str:
    """Choose the small model with which a learner is tested."""
    return "conv4, maps" if name in OF_MAPS else "mlp"


def tasks_of(name: str, *, queries: int = 2, shots: int = 2, masked: bool = False) -> Tasks:
    """Make small tasks for a learner, with unlabelled examples if it uses them."""
    unlabelled = 2 * WAYS if name in USING_UNLABELLED else 0
    return made_tasks(model_of(name), shots=shots, queries=queries, masked=masked, unlabelled=unlabelled)


POOLED = (
    "finetune",
    "finetune, cosines",
    "joint",
    "simpleshot",
    "meta-baseline",
)  # their meta-loss treats the examples of all tasks as one batch


def batch_and_another(rows: Sequence[Row]) -> list[Row]:
    """Pair every learner with batch norm, which makes it transductive, and with one of the other modes."""
    return [row for row in rows if row[1] == "batch"] + each_once([row for row in rows if row[1] != "batch"])


every_learner = pytest.mark.parametrize("name", LEARNERS)


OTHERS = [name for name in OVER_TASKS if name not in ("loop", "vmap")]


@covering(("name", "other", "norm", "masked"), LEARNERS, OTHERS, ["batch", "support"], [False, True], select=each_once)
def test_strategies_over_tasks_agree(name: str, other: str, norm: str, masked: bool) -> None:
    tasks = tasks_of(name, masked=masked)
    found = {}
    for strategy in ("loop", "vmap", other):
        make = OVER_TASKS[strategy]
        learner = made_learner(name, make(), norm=norm)
        outcome = learner.meta_loss(tasks)
        gradient = meta_gradient(learner, tasks)[1]
        curve = learner.eval().adapt(tasks.support).curve(tasks.query.x, tasks.query.mask)
        found[strategy] = (outcome, gradient, curve)
    expected, gradient, curve = found.pop("loop")
    assert curve.shape[1:] == (3, 2 * WAYS, WAYS)
    for outcome, other_gradient, other_curve in found.values():
        for field in ("loss", "query_logits", "per_step"):
            torch.testing.assert_close(getattr(outcome, field), getattr(expected, field), rtol=1e-10, atol=1e-10)
        assert distance(other_gradient, gradient) < 1e-10
        torch.testing.assert_close(other_curve, curve, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["maml", "anil, reverse sweep", "prototypes"])
@pytest.mark.parametrize("model", ["conv4, stride", "text"])
def test_strategies_agree_on_images_and_text(model: str, name: str) -> None:
    tasks = made_tasks(model, masked=True)
    reference = meta_gradient(made_learner(name, Loop(), model=model), tasks)[1]
    for over_tasks in (Vmap(), Vmap(chunk=2)):
        assert distance(meta_gradient(made_learner(name, over_tasks, model=model), tasks)[1], reference) < 1e-10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*jit.script_method.*:DeprecationWarning")  # torch's own, when inductor is imported
def test_compiled_vmap_agrees_and_compiles_once() -> None:
    tasks = made_tasks("mlp")
    strategy = Vmap(compiled=True)
    learner = made_learner("maml", strategy)
    expected = meta_gradient(made_learner("maml"), tasks)
    for _ in range(2):
        loss, gradient = meta_gradient(learner, tasks)
        assert loss.item() == pytest.approx(expected[0].item(), rel=1e-10)
        assert distance(gradient, expected[1]) < 1e-10
    assert len(strategy._compiled) == 1


@every_learner
def test_query_labels_are_no_argument_of_adaptation(name: str) -> None:
    parameters = inspect.signature(type(made_learner(name)).adapt).parameters
    assert list(parameters) == ["self", "support", "unlabelled"]
    assert parameters["support"].annotation is Examples


@covering(("name", "norm"), LEARNERS, NORMS, select=batch_and_another)
def test_other_queries_matter_to_transductive_learners_only(name: str, norm: str) -> None:
    tasks = tasks_of(name, queries=4)
    learner = made_learner(name, norm=norm).eval()
    predictor = learner.adapt(tasks.support)
    together, alone = predictor(tasks.query.x), predictor(tasks.query.x[:, :5])
    order = torch.randperm(together.shape[1])
    torch.testing.assert_close(predictor(tasks.query.x[:, order]), together[:, order])
    assert torch.allclose(alone, together[:, :5]) is not learner.transductive
    assert learner.transductive is (norm == "batch" or name in TRANSDUCTIVE)


@every_learner
def test_running_averages_make_no_learner_transductive(name: str) -> None:
    if name in IN_CONTEXT:
        with pytest.raises(UserError, match=r"model\.norm=running"):
            made_learner(name, norm="running")
        return
    tasks = tasks_of(name, queries=4)
    learner = made_learner(name, norm="running").eval()
    assert learner.transductive is (name in TRANSDUCTIVE)
    if learner.transductive:
        return
    predictor = learner.adapt(tasks.support)
    torch.testing.assert_close(predictor(tasks.query.x)[:, :5], predictor(tasks.query.x[:, :5]))


def test_only_meta_losses_move_running_averages_and_padding_does_not_count() -> None:
    tasks = made_tasks("mlp", masked=True)
    assert tasks.support.mask is not None
    noisy = replace(tasks, support=scrambled(tasks.support), query=scrambled(tasks.query))
    averages = []
    for each in (tasks, noisy):
        learner = made_learner("maml", norm="running")
        before = copy.deepcopy({name: value for name, value in learner.model.named_buffers() if "running" in name})
        learner.adapt(each.support)(each.query.x)
        learner.eval().meta_loss(each)
        assert_same({name: value for name, value in learner.model.named_buffers() if "running" in name}, before)
        learner.train().meta_loss(each)
        after = {name: value for name, value in learner.model.named_buffers() if "running" in name}
        assert after
        assert all((after[name] != before[name]).any() for name in after)
        averages.append(after)
    assert_same(*averages)


def test_A5_running_averages_move_beside_layers_of_another_norm() -> None:
    class Both(nn.Module):
        """A network of running norms and LayerNorm."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(5, 8), Norm(8, "running")
            self.layer, self.head = nn.LayerNorm(8), nn.Linear(8, WAYS)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(self.norm(self.first(x)).relu()))

    tasks, learner = made_tasks("mlp"), LEARNERS["maml"](Both().double(), Loop())
    norm = learner.get_submodule("model.norm")
    before = norm.running_mean.clone()
    learner.eval().meta_loss(tasks)
    assert torch.equal(norm.running_mean, before)
    learner.train().meta_loss(tasks)
    assert not torch.equal(norm.running_mean, before)


@covering(("name", "norm"), LEARNERS, ["batch", "support", "layer"], select=each_once)
def test_the_content_of_padding_changes_nothing(name: str, norm: str) -> None:
    tasks = tasks_of(name, masked=True)
    noisy = replace(tasks, support=scrambled(tasks.support), query=scrambled(tasks.query))
    learner = made_learner(name, norm=norm)
    loss, gradient = meta_gradient(learner, tasks)
    noisy_loss, noisy_gradient = meta_gradient(learner, noisy)
    assert noisy_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert distance(noisy_gradient, gradient) < 1e-12
    found, expected = (learner.adapt(t.support)(t.query.x, t.query.mask) for t in (noisy, tasks))
    real = tasks.query.mask
    torch.testing.assert_close(found[real], expected[real])


@pytest.mark.parametrize("size", [1, 1000], ids=["small", "large"])
@every_learner
def test_absent_classes_are_never_answered(name: str, size: int) -> None:
    """Also if all logits are far below zero, like negative squared distances of large features."""
    tasks = tasks_of(name, masked=True)
    learner = made_learner(name, norm="batch" if size == 1 else "none")
    logits = learner.adapt(replace(tasks.support, x=tasks.support.x * size))(tasks.query.x * size, tasks.query.mask)
    assert (logits[1].argmax(-1) < WAYS - 1).all()
    assert torch.softmax(logits[1], -1)[:, -1].max() == 0


@pytest.mark.parametrize("name", ORDERED)
def test_the_order_of_the_support_set_matters_to_sequence_models_as_they_declare(name: str) -> None:
    tasks = made_tasks("mlp")
    shuffled = tasks.support.map(lambda t: t.flip(1))
    learner = made_learner(name)
    assert not torch.allclose(learner.adapt(shuffled)(tasks.query.x), learner.adapt(tasks.support)(tasks.query.x))


@pytest.mark.parametrize("name", READERS)
def test_where_padding_stands_changes_nothing(name: str) -> None:
    """Answers depend on the real examples and their order, not on the position and amount of padding."""
    tasks = made_tasks("mlp", shots=3)
    few = tasks.support.map(lambda t: t[:, ::2])
    real = torch.arange(tasks.support.y.shape[1]) % 2 == 0
    padded = replace(tasks.support, mask=real.expand(len(tasks), -1))
    learner = made_learner(name, norm="layer")
    expected = learner.adapt(few)(tasks.query.x)
    torch.testing.assert_close(learner.adapt(padded)(tasks.query.x), expected)


@pytest.mark.parametrize("name", METRIC)
def test_names_of_classes_permute_the_answers_of_learners_without_a_head(name: str) -> None:
    tasks = tasks_of(name)
    new = torch.tensor([2, 0, 1])  # class c gets the number new[c]
    renamed = replace(tasks.support, y=new[tasks.support.y])
    learner = made_learner(name)
    logits, expected = (learner.adapt(s)(tasks.query.x) for s in (renamed, tasks.support))
    torch.testing.assert_close(logits[..., new], expected)
    assert not torch.allclose(logits, expected)


@every_learner
def test_a_deep_copy_is_equal_and_independent(name: str) -> None:
    tasks = tasks_of(name)
    learner = made_learner(name)
    other = copy.deepcopy(learner)
    expected = meta_gradient(learner, tasks)
    found = meta_gradient(other, tasks)
    assert found[0] == expected[0]
    assert_same(found[1], expected[1])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    assert meta_gradient(other, tasks)[0] != expected[0]
    assert meta_gradient(learner, tasks)[0] == expected[0]


def one_of_each_class(rows: Sequence[Row]) -> list[Row]:
    """Pair every learner with the loop, and one of each class with the strategy that times the others."""
    timed = {type(made_learner(str(name))): (name, over_tasks) for name, over_tasks in rows if over_tasks == "auto"}
    return [row for row in rows if row[1] == "loop" or row in timed.values()]


@covering(("name", "over_tasks"), LEARNERS, ["loop", "auto"], select=one_of_each_class)
def test_its_state_travels_through_a_file(name: str, over_tasks: str, tmp_path: Path) -> None:
    tasks = tasks_of(name)
    learner = made_learner(name, OVER_TASKS[over_tasks]())
    learner.meta_loss(tasks)
    expected = learner.adapt(tasks.support)(tasks.query.x)
    torch.save(learner.state_dict(), tmp_path / "state.pt")
    other = made_learner(name, OVER_TASKS[over_tasks]())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.over_tasks.choices() == learner.over_tasks.choices()
    used = set(other.over_tasks.choices()) - ({"gradient"} if name in POOLED else set())
    assert "auto" not in {other.over_tasks.choices().get(each) for each in used}  # the choice is restored, not timed again
    assert torch.equal(other.adapt(tasks.support)(tasks.query.x), expected)


UNREACHED = {  # parameters that no meta-gradient of the composition can reach
    "finetune": {"model.head.weight", "model.head.bias"},  # a task's new head
    "finetune, cosines": {"model.head.weight"},
    "meta-baseline": {"comparison.scale.log"},  # not updated in steps that classify
    "joint": {"model.head.weight", "model.head.bias"},
    "metasgd, zero head": {"model.head.weight"},  # starts at zero in every task
    "protomaml": {"model.head.weight", "model.head.bias"},  # starts as the prototypes in every task
}


@every_learner
def test_the_gradient_reaches_every_parameter_that_it_should(name: str) -> None:
    learner = made_learner(name, norm="layer")
    _, gradient = meta_gradient(learner, tasks_of(name))
    assert {n for n, g in gradient.items() if not g.any()} == UNREACHED.get(name, set())


@every_learner
def test_adapting_and_learning_leave_parameters_and_tasks_alone(name: str) -> None:
    tasks, again = tasks_of(name, masked=True), tasks_of(name, masked=True)
    learner = made_learner(name)
    before = copy.deepcopy(learner.state_dict())
    for over_tasks in (Loop(), Vmap()):
        learner.over_tasks = over_tasks
        learner.adapt(tasks.support)(tasks.query.x)
        learner.meta_loss(tasks).loss.backward()
    after = {n: v for n, v in learner.state_dict().items() if isinstance(v, Tensor)}
    assert_same({n: v for n, v in after.items() if not n.startswith("transform.")}, before)  # statistics of meta-training
    for got, expected in zip((tasks.support, tasks.query), (again.support, again.query), strict=True):
        assert torch.equal(got.x, expected.x)
        assert torch.equal(got.y, expected.y)


@every_learner
def test_loss_has_a_value_but_no_graph_without_gradients(name: str) -> None:
    tasks = tasks_of(name)
    learner = made_learner(name)
    with torch.no_grad():
        outcome = learner.meta_loss(tasks)
    assert not outcome.loss.requires_grad
    assert outcome.loss == learner.meta_loss(tasks).loss
    assert not outcome.query_logits.requires_grad
    assert not outcome.per_step.requires_grad


@every_learner
def test_the_backward_pass_scales(name: str) -> None:
    tasks = tasks_of(name)
    learner = made_learner(name)
    expected = meta_gradient(learner, tasks)[1]
    learner.zero_grad()
    (3 * learner.meta_loss(tasks).loss).backward()
    for parameter_name, parameter in learner.named_parameters():
        if not parameter.requires_grad:
            continue
        torch.testing.assert_close(parameter.grad, 3 * expected[parameter_name])


@every_learner
def test_unlabelled_examples_are_refused_where_they_are_not_used(name: str) -> None:
    tasks = tasks_of(name)
    learner = made_learner(name)
    if name not in USING_UNLABELLED:
        assert not learner.uses_unlabelled
        with pytest.raises(UserError, match="unlabelled"):
            learner.adapt(tasks.support, tasks.query.x)
        return
    assert learner.uses_unlabelled
    found = learner.adapt(tasks.support, tasks.query.x)(tasks.query.x)
    torch.testing.assert_close(found, learner.adapt(replace(tasks.support, unlabelled=tasks.query.x))(tasks.query.x))
    assert not torch.allclose(found, learner.adapt(tasks.support)(tasks.query.x))


@every_learner
def test_it_learns(name: str) -> None:
    """A few outer steps on the same tasks lower the meta-training loss."""
    tasks = tasks_of(name, shots=4, queries=4)
    learner = made_learner(name, norm="layer")
    adam = torch.optim.Adam(learner.parameters(), lr=0.01)

    def step() -> float:
        loss, _ = meta_gradient(learner, tasks)
        adam.step()
        return loss.item()

    if name == "reptile":  # its steps fit the support sets, so the support loss must improve
        tasks = Tasks(tasks.support, tasks.support, tasks.index)
    losses = [step() for _ in range(15)]
    assert losses[-1] < losses[0] - 0.05


def scrambled(examples: Examples) -> Examples:
    """Change the padding, and keep the real examples."""
    assert examples.mask is not None
    noise = torch.randn_like(examples.x) * 5
    real = examples.mask.view(*examples.mask.shape, *[1] * (examples.x.ndim - 2))
    y = torch.where(examples.mask, examples.y, (examples.y + 1) % WAYS)
    scrambled = replace(examples, x=torch.where(real, examples.x, noise), y=y)
    if examples.unlabelled is None or examples.unlabelled_mask is None:
        return scrambled
    shown = torch.where(examples.unlabelled_mask[..., None], examples.unlabelled, torch.randn_like(examples.unlabelled) * 5)
    return replace(scrambled, unlabelled=shown)


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def test_the_tables_make_the_models_heads_right() -> None:
    assert isinstance(made_learner("maml").model.head, nn.Linear)
    assert made_learner("prototypes").model.head is None
