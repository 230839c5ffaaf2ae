"""Presets against their authors' loops, written down in plain torch and compared in float64."""

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from metaloop.config.build import build_learner
from metaloop.config.composition import DEFAULTS
from metaloop.config.folder import conf_dir
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.inner.objective import AnnealedSum
from metaloop.inner.selection.adapted import Pattern
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.gradient_task import adapted_names
from metaloop.learners.gradient.pretrained import Pretrained
from metaloop.learners.gradient.support_order import Epochs
from metaloop.learners.learner import Learner
from metaloop.models.norm import norm_parameters
from metaloop.types import EpisodeSpec, Examples, Tasks

SPEC = EpisodeSpec(ways=3, shots=3, queries=2)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def pool() -> ClassPool:
    random = torch.Generator().manual_seed(0)
    means = torch.randint(0, 200, (6, 1, 1, 8, 8), generator=random)
    noise = torch.randint(0, 55, (6, 10, 1, 8, 8), generator=random)
    return ClassPool((means + noise).flatten(0, 1).to(torch.uint8), [10] * 6, [f"class {i}" for i in range(6)])


def preset(name: str, *overrides: str) -> Learner:
    small = (f"algorithm={name}", "model=conv4", "model.filters=4", "model.downsample=stride", "algorithm/over_tasks=loop")
    with initialize_config_dir(str(conf_dir()), **DEFAULTS):
        composed = compose("train", [*small, *overrides])
    config = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("algorithm", "model")}
    return build_learner(config | {"seed": 0}, pool(), SPEC).double()


def task() -> Tasks:
    tasks = Episodes(pool(), SPEC, Stream(0, "train")).tasks(torch.arange(1))
    return tasks.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def alone(tasks: Tasks) -> tuple[Examples, Examples]:
    one = tasks.map(lambda tensor: tensor[0])
    return one.support, one.query


def fine_tuned(head: nn.Module, features: Tensor, support: Examples) -> None:
    """A hundred passes in batches of four, the last of what is left (``methods/baselinefinetune.py`` of Chen et al.)."""
    sgd = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    for number in range(100):
        order = torch.cat([Epochs().rows(support, 4, 3 * number + i) for i in range(3)])  # of nine examples
        assert sorted(order.tolist()) == list(range(9))
        for rows in order.split(4):
            sgd.zero_grad()
            F.cross_entropy(head(features[rows]), support.y[rows]).backward()
            sgd.step()


def features_of(learner: Pretrained, x: Tensor) -> Tensor:
    identity = {"head.weight": torch.eye(4, dtype=torch.float64), "head.bias": torch.zeros(4, dtype=torch.float64)}
    names = dict(learner.model.named_parameters())
    if "head.bias" in names:
        return functional_call(learner.model, identity, (x,)).detach()
    kept = learner.model.head
    learner.model.head = nn.Identity()
    features: Tensor = learner.model(x).detach()
    learner.model.head = kept
    return features


def test_C4_finetune_is_the_authors_hundred_passes() -> None:
    learner = preset("finetune", "algorithm/head_init=zero", "model.norm=running").eval()
    assert isinstance(learner, Pretrained)
    support, query = alone(task())
    predictor = learner.adapt(task().support)
    head = nn.Linear(4, 3).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    fine_tuned(head, features_of(learner, support.x), support)
    torch.testing.assert_close(predictor(task().query.x)[0], head(features_of(learner, query.x)).detach(), **CLOSE)
    assert predictor.curve_steps[-1] == learner.steps_for(9) == 300
    assert learner.steps_for(5) == 200  # one shot of five ways: batches of four and one


def test_C4_finetune_pp_is_the_authors_layer_of_cosines() -> None:
    """Scale 2 and a learned length for each class, as ``distLinear`` in the code of Chen et al. has for few classes."""
    learner = preset("finetune_pp", "algorithm/head_init=learned", "model.norm=running").eval()
    assert isinstance(learner, Pretrained)
    support, query = alone(task())
    own = dict(learner.model.head.named_parameters())
    assert set(own) == {"weight", "lengths"}
    linear = weight_norm(nn.Linear(4, 3, bias=False).double())
    with torch.no_grad():
        linear.parametrizations.weight.original0.copy_(own["lengths"][:, None])
        linear.parametrizations.weight.original1.copy_(own["weight"])
    head = nn.Sequential(linear)

    class Cosines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.head(F.normalize(x, dim=-1))

    theirs = Cosines()
    fine_tuned(theirs, features_of(learner, support.x), support)
    ours = learner.adapt(task().support)(task().query.x)[0]
    # Ours bounds the length of vectors from below where theirs adds 1e-5 to that of features: both are rounding here.
    torch.testing.assert_close(ours, theirs(features_of(learner, query.x)).detach(), rtol=1e-6, atol=1e-6)


def test_C4_unicorn_maml_is_the_authors_loop() -> None:
    """Five first-order steps at 0.1 from one vector for all classes, whose gradient sums those of the classes."""
    learner = preset("unicorn_maml")
    assert isinstance(learner, GradientLearner)
    support, query = alone(task())
    model = learner.model
    start = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    for name in ("head.weight", "head.bias"):
        start[name] = start[name].detach().mean(0, keepdim=True).requires_grad_()
    full = {n: v.expand(3, *v.shape[1:]) if n.startswith("head.") else v for n, v in start.items()}
    at = full
    for _ in range(5):
        leaves = {name: value.detach().requires_grad_() for name, value in at.items()}
        loss = F.cross_entropy(functional_call(model, leaves, (support.x,)), support.y)
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        at = {name: value - 0.1 * slope for (name, value), slope in zip(at.items(), slopes, strict=True)}
    F.cross_entropy(functional_call(model, at, (query.x,)), query.y).backward()
    learner.meta_loss(task()).loss.backward()
    for name, value in model.named_parameters():
        assert value.grad is not None
        ours = value.grad.sum(0, keepdim=True) if name.startswith("head.") else value.grad
        torch.testing.assert_close(ours, start[name].grad, **CLOSE)


def test_C9_norms_that_do_not_adapt_are_learned_by_the_outer_loop_alone() -> None:
    """One step of MAML with the norms held still, as in the code of Finn et al., by plain second-order autograd."""
    learner = preset("maml", "algorithm.adapted.norms=false")
    assert isinstance(learner, GradientLearner)
    model, (support, query) = learner.model, alone(task())
    start = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    moving = [name for name in start if ".norm." not in name]
    assert set(moving) == set(learner.task.adapted) == set(start) - set(norm_parameters(model))
    loss = F.cross_entropy(functional_call(model, start, (support.x,)), support.y)
    slopes = torch.autograd.grad(loss, [start[name] for name in moving], create_graph=True)
    at = start | {name: start[name] - 0.4 * slope for name, slope in zip(moving, slopes, strict=True)}
    F.cross_entropy(functional_call(model, at, (query.x,)), query.y).backward()
    learner.meta_loss(task()).loss.backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, start[name].grad, **CLOSE)


def test_C9_nothing_left_to_adapt_is_refused() -> None:
    with pytest.raises(UserError, match=r"algorithm\.adapted\.norms=false: norm layers are all"):
        adapted_names(NormsAlone(), preset("maml").model)


class NormsAlone(Pattern):
    norms = False

    def __init__(self) -> None:
        super().__init__("norm")


def moved(learner: GradientLearner) -> None:
    """Make every rate and norm of every step another number."""
    with torch.no_grad():
        for number, value in enumerate(learner.parameters()):
            value.add_(0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(number), dtype=value.dtype))


@pytest.mark.parametrize("outer_step", [0, 2600, 9000])
def test_C3_mamlpp_is_the_authors_loop(outer_step: int) -> None:
    """Rates and norms of each step, and every step's query loss by its weight, with second-order autograd."""
    learner = preset("mamlpp", "algorithm.steps=3")
    assert isinstance(learner, GradientLearner)
    learner.outer_step = outer_step
    model, (support, query) = learner.model, alone(task())
    moved(learner)
    leaves = {
        name: value.detach().clone().requires_grad_() for name, value in learner.named_parameters() if value.requires_grad
    }
    at = {name.removeprefix("model."): value for name, value in leaves.items() if name.startswith("model.")}
    prefix = "step_norms.values."

    def norms(step: int) -> dict[str, Tensor]:
        return {n.removeprefix(prefix).replace("/", "."): v[step] for n, v in leaves.items() if n.startswith(prefix)}

    assert set(at) | set(norms(0)) == {name for name, _ in model.named_parameters()}
    weights = {0: [1 / 3, 1 / 3, 1 / 3], 2600: [0.5 / 3, 0.5 / 3, 2 / 3], 9000: [0.0, 0.0, 1.0]}[outer_step]
    total = torch.zeros((), dtype=torch.float64)
    for step in range(3):
        loss = F.cross_entropy(functional_call(model, {**at, **norms(step)}, (support.x,)), support.y)
        slopes = torch.autograd.grad(loss, list(at.values()), create_graph=True)
        rates = [leaves["rule.rates." + name.replace(".", "/")][step] for name in at]
        at = {n: value - rate * slope for (n, value), rate, slope in zip(at.items(), rates, slopes, strict=True)}
        after = functional_call(model, {**at, **norms(step)}, (query.x,))
        total = total + weights[step] * F.cross_entropy(after, query.y)
    total.backward()
    result = learner.meta_loss(task())
    result.loss.backward()
    torch.testing.assert_close(result.loss, total, **CLOSE)
    for name, leaf in leaves.items():
        torch.testing.assert_close(learner.get_parameter(name).grad, leaf.grad, **CLOSE)


@pytest.mark.parametrize("other", ["over_tasks=vmap", "over_tasks=workers", "meta_gradient=reverse_sweep"])
def test_C3_strategies_and_the_reverse_sweep_agree(other: str) -> None:
    gradients = []
    for override in ("over_tasks=loop", other):
        small = ("algorithm=maml", "algorithm.steps=2", "algorithm.adapted.norms=false", "algorithm.norm_steps=2")
        learner = preset("mamlpp", *small, f"algorithm/{override}")
        assert isinstance(learner, GradientLearner)
        moved(learner)
        learner.meta_loss(task()).loss.backward()
        gradients.append({name: value.grad for name, value in learner.named_parameters() if value.requires_grad})
    assert any(name.startswith("step_norms.") for name in gradients[0])
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, **CLOSE)


def test_C3_later_steps_at_test_use_the_last_norms() -> None:
    learner = preset("mamlpp", "algorithm.steps=2", "algorithm.eval_steps=4").eval()
    assert isinstance(learner, GradientLearner)
    assert learner.step_norms is not None
    moved(learner)
    first, second, fourth = (learner.step_norms.at(learner.values(), step) for step in (0, 1, 3))
    assert all(torch.equal(value, fourth[name]) and not torch.equal(value, first[name]) for name, value in second.items())
    predictor = learner.adapt(task().support)
    assert predictor.adapted is not None
    adapted = {name: value[0] for name, value in predictor.adapted.items()}
    by_hand = functional_call(learner.model, {**adapted, **fourth}, (alone(task())[1].x,))
    torch.testing.assert_close(predictor(task().query.x)[0], by_hand, **CLOSE)


def test_C3_each_part_can_be_taken_away() -> None:
    without = preset("mamlpp", "algorithm.norm_steps=null")
    adapting = preset("mamlpp", "algorithm.norm_steps=null", "algorithm.adapted.norms=true")
    assert isinstance(without, GradientLearner)
    assert isinstance(adapting, GradientLearner)
    assert without.step_norms is None
    assert set(adapting.task.adapted) - set(without.task.adapted) == set(norm_parameters(adapting.model))
    with pytest.raises(UserError, match=r"algorithm\.norm_steps=5: .*algorithm\.adapted\.norms=false"):
        preset("mamlpp", "algorithm.adapted.norms=true")
    with pytest.raises(UserError, match=r"algorithm\.norm_steps=5: the model has no norm layers"):
        preset("mamlpp", "model.norm=none")
    with pytest.raises(UserError, match=r"displacement cannot learn norms of steps"):
        preset("reptile", "algorithm.adapted.norms=false", "algorithm.norm_steps=2")


def test_C3_the_annealed_weights_keep_the_authors_floor() -> None:
    objective = AnnealedSum(until=100, stages=100, floor=0.03)
    assert objective.weights(5, 99) == pytest.approx((0, *(0.006,) * 4, 0.976))
    assert objective.weights(5, 100) == (0, 0, 0, 0, 0, 1)
    with pytest.raises(UserError, match=r"algorithm\.objective\.floor=1"):
        AnnealedSum(until=1, floor=1.0)
