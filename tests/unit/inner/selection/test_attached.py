"""Parts that are added to layers, and what of them adapts."""

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradients.meta_gradient import Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import Adapted, All
from metaloop.inner.selection.context import Context
from metaloop.inner.selection.low_rank import LowRank
from metaloop.inner.selection.warp import Warped
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Tasks

CHOICES = {
    "context": Context(3, r"layers\.0$", "concatenate"),
    "contexts": Context(3, r"layers", "film", residual=True),
    "low rank": LowRank(2),
    "low rank, frozen": LowRank(2, freeze_base=True, head=False),
    "warped": Warped(),
    "warped body": Warped(head=False),
}
every_choice = pytest.mark.parametrize("choice", CHOICES)


def made_mlp() -> MLP:
    torch.manual_seed(0)
    return MLP((4,), 3, hidden=[6, 5])


def made_conv(**arguments: object) -> Conv4:
    torch.manual_seed(0)
    return Conv4((1, 8, 8), 3, filters=4, downsample="stride", norm="layer", **arguments)


def made_learner(model: nn.Module, adapted: Adapted) -> GradientLearner:
    rule = partial(GradientDescent, lr=0.5)
    return GradientLearner(model, CrossEntropy(), adapted, rule, Unrolled(), LastStep(), Learned(), Loop(), steps=2)


def made_task(shape: tuple[int, ...] = (4,)) -> Tasks:
    random = torch.Generator().manual_seed(1)
    y = torch.arange(3).repeat(2)[None]
    support, query = (Examples(torch.randn(1, 6, *shape, generator=random), y, None, 3) for _ in range(2))
    return Tasks(support, query, torch.arange(1))


@every_choice
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_model_answers_as_before_under_the_names_as_before(choice: str, dtype: torch.dtype) -> None:
    model, x = made_mlp().to(dtype), torch.randn(5, 4, dtype=dtype)
    before, answers = dict(model.named_parameters()), model(x)
    assert CHOICES[choice].attach(model) is model
    after = dict(model.named_parameters())
    assert all(after[name] is value for name, value in before.items())
    assert len(after) > len(before)
    assert {value.dtype for value in after.values()} == {dtype}
    torch.testing.assert_close(model(x), answers, rtol=1e-12 if dtype == torch.float64 else 1e-5, atol=1e-6)


@every_choice
def test_what_adapts_and_what_is_learned(choice: str) -> None:
    learner = made_learner(made_mlp(), CHOICES[choice])
    adapted, learned = CHOICES[choice].names(learner.model), learner.meta_parameters()
    base = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    head = ["head.weight", "head.bias"]
    ranks = [f"layers.{i}.low_rank.{part}.weight" for i in (0, 1) for part in ("down", "up")]
    warps = [f"layers.{i}.warp.map.weight" for i in (0, 1)]
    inputs = ["layers.0.context.map.weight"]
    expected = {
        "context": (["layers.0.context.vector"], base + inputs + head),
        "contexts": (["layers.0.context.vector"], base + inputs + ["layers.1.context.map.weight"] + head),
        "low rank": (ranks + head, base + ranks + head),
        "low rank, frozen": (ranks, ranks + head),
        "warped": (base + head, base + warps + head),
        "warped body": (base, base + warps + head),
    }[choice]
    assert sorted(adapted) == sorted(expected[0])
    assert sorted(learned) == sorted("model." + name for name in expected[1])


@every_choice
def test_every_learned_number_gets_a_meta_gradient(choice: str) -> None:
    learner = made_learner(made_mlp(), CHOICES[choice])
    learner.meta_loss(made_task()).loss.backward()
    # Behind an adapter that starts at zero, the inner gradient of its first matrix starts at zero; the meta-gradient does not.
    assert all(value.grad is not None and value.grad.any() for value in learner.meta_parameters().values())


@every_choice
def test_adaptation_starts_at_once_and_only_at_what_adapts(choice: str) -> None:
    learner, task = made_learner(made_mlp(), CHOICES[choice]), made_task()
    curve = learner.adapt(task.support).curve(task.support.x)
    losses = [F.cross_entropy(logits[0], task.support.y[0]).item() for logits in curve]
    assert losses[2] < losses[1] < losses[0]


@every_choice
def test_an_extended_model_travels(choice: str) -> None:
    model, x = CHOICES[choice].attach(made_mlp()), torch.randn(5, 4)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape))
    expected = model(x)
    other = CHOICES[choice].attach(made_mlp())
    assert not torch.allclose(other(x), expected)
    other.load_state_dict(model.state_dict())
    for same in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(same(x), expected)
        assert CHOICES[choice].names(same) == CHOICES[choice].names(model)


def test_context_beside_the_input_is_a_wider_first_layer() -> None:
    model = CHOICES["context"].attach(made_mlp())
    context, layer = torch.randn(3), model.layers[0]
    wide = torch.cat([layer.weight, layer.context.map.weight], 1)
    x = torch.randn(5, 4)
    found = torch.func.functional_call(model, {"layers.0.context.vector": context}, (x,))
    hidden = F.relu(F.linear(torch.cat([x, context.expand(5, -1)], 1), wide, layer.bias))
    torch.testing.assert_close(found, model.head(F.relu(model.layers[1](hidden))))
    assert layer.context.map.weight.abs().max() <= 7**-0.5


def test_film_scales_and_shifts_channels() -> None:
    model, x = made_conv(), torch.randn(2, 1, 8, 8)
    maps: list[Tensor] = []
    model.blocks[2].register_forward_hook(lambda module, inputs, output: maps.append(output))
    Context(3, r"blocks\.2$", "film", residual=True).attach(model)
    model.blocks[3].register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    context = torch.randn(3)
    torch.func.functional_call(model, {"blocks.2.context.vector": context}, (x,))
    scale, shift = (model.blocks[2].context.map.weight @ context).view(2, 4, 1, 1)
    torch.testing.assert_close(maps[1], (1 + scale) * maps[0] + shift)
    assert (maps[1] - maps[0]).abs().max() > 0.01


def by_zintgraf(params: dict[str, Tensor], context: Tensor, x: Tensor, *, pool: bool) -> Tensor:
    """CAVIA's network as the authors' code has it, with FiLM in the third block after norm and pooling, before ReLU."""
    for i in range(4):
        x = F.conv2d(x, params[f"blocks.{i}.conv.weight"], stride=1 if pool else 2, padding=1)
        x = F.batch_norm(x, None, None, params[f"blocks.{i}.norm.weight"], params[f"blocks.{i}.norm.bias"], training=True)
        x = F.max_pool2d(x, 2) if pool else x
        if i == 2:
            film = F.linear(context, params["blocks.2.pool.context.map.weight"], params["blocks.2.pool.context.map.bias"])
            x = film[:8].view(1, -1, 1, 1) * x + film[8:].view(1, -1, 1, 1)
        x = F.relu(x)
    return F.linear(x.flatten(1) if pool else x.mean((2, 3)), params["head.weight"], params["head.bias"])


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_C5_context_film_is_cavias(downsample: str, kernels: bool) -> None:
    """Answers and meta-gradients of two inner steps are those of the authors' equations, in float64."""
    torch.manual_seed(0)
    model = Conv4((1, 16, 16), 3, filters=8, downsample=downsample, norm="batch", kernels=kernels).double()
    adapted = Context(5, conf_at("context_film"), "film")
    learner = made_learner(model, adapted)
    task = made_task((1, 16, 16)).map(lambda value: value.double() if value.is_floating_point() else value)
    found = learner.meta_loss(task)
    found.loss.backward()
    params = dict(model.named_parameters())
    context, support, query = torch.zeros(5, dtype=torch.float64, requires_grad=True), task.support, task.query
    for _ in range(2):
        loss = F.cross_entropy(by_zintgraf(params, context, support.x[0], pool=downsample == "pool"), support.y[0])
        context = context - 0.5 * torch.autograd.grad(loss, context, create_graph=True)[0]
    loss = F.cross_entropy(by_zintgraf(params, context, query.x[0], pool=downsample == "pool"), query.y[0])
    torch.testing.assert_close(found.loss, loss)
    names = [name for name, value in params.items() if value.requires_grad]
    gradients = torch.autograd.grad(loss, [params[name] for name in names])
    assert len(names) == 16
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(params[name].grad, gradient, msg=lambda text, name=name: f"{name}: {text}")
    assert context.abs().max() > 1e-3


def test_C5_films_map_starts_as_the_authors() -> None:
    model = Context(100, conf_at("context_film"), "film").attach(MLP((4,), 3, hidden=[300]))
    weight, bias = model.layers[0].context.map.weight, model.layers[0].context.map.bias
    assert weight.shape == (600, 100)
    assert 0.17 < weight.abs().max() < (3 / 100) ** 0.5
    assert 0.095 < bias.abs().max() < 0.1


def conf_at(choice: str) -> str:
    return str(OmegaConf.load(conf_dir() / "algorithm" / "adapted" / f"{choice}.yaml").at)


def test_one_context_is_seen_by_all() -> None:
    learner, task = made_learner(made_mlp(), CHOICES["contexts"]), made_task()
    learner.adapt(task.support)
    model = learner.model
    assert model.layers[0].context.vector is model.layers[1].context.vector
    zero, moved = torch.zeros(3), torch.ones(3)
    x = torch.randn(5, 4)
    answers = [torch.func.functional_call(model, {"layers.0.context.vector": each}, (x,)) for each in (zero, moved)]
    with torch.no_grad():
        model.layers[0].context.map.weight.zero_()  # what is left is what the second layer sees
    second = torch.func.functional_call(model, {"layers.0.context.vector": moved}, (x,))
    torch.testing.assert_close(answers[0], model(x))
    assert not torch.allclose(second, answers[0])
    assert not torch.allclose(second, answers[1])


def test_a_low_rank_answer_is_that_of_the_sum_of_matrices() -> None:
    model, x = made_conv(), torch.randn(2, 1, 8, 8)
    merged = copy.deepcopy(model)
    LowRank(2, alpha=3.0).attach(model)
    for block, plain in zip(model.blocks, merged.blocks, strict=True):
        part = block.conv.low_rank
        nn.init.normal_(part.up.weight)
        with torch.no_grad():
            plain.conv.weight.add_(1.5 * torch.einsum("or,rikl->oikl", part.up.weight[:, :, 0, 0], part.down.weight))
    torch.testing.assert_close(model(x), merged(x), rtol=1e-4, atol=1e-4)
    mlp, x = made_mlp(), torch.randn(2, 4)
    merged_mlp = copy.deepcopy(mlp)
    LowRank(2, alpha=3.0, at=r"layers\.1").attach(mlp)
    part = mlp.layers[1].low_rank
    nn.init.normal_(part.up.weight)
    with torch.no_grad():
        merged_mlp.layers[1].weight.add_(1.5 * part.up.weight @ part.down.weight)
    torch.testing.assert_close(mlp(x), merged_mlp(x))
    assert not hasattr(mlp.layers[0], "low_rank")


def test_a_warp_preconditions_the_inner_gradient() -> None:
    """One step on W under a warp T equals one on V = T W with the gradient multiplied by T T'."""
    plain = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    warped = Warped(head=False).attach(copy.deepcopy(plain))
    warp = warped[0].warp.map.weight
    with torch.no_grad():
        warp.copy_(torch.randn(3, 3, dtype=torch.float64))
        plain[0].weight.copy_(warp @ warped[0].weight)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3

    def step(model: nn.Sequential, precondition: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), [model[0].weight])
        return model[0].weight - 0.1 * precondition @ gradient

    torch.testing.assert_close(warp @ step(warped, torch.eye(3).double()), step(plain, warp @ warp.T))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Context(0, "layers", "film"), r"algorithm\.adapted\.size=0: at least 1"),
        (lambda: Context(1, "layers", "gate"), r"algorithm\.adapted\.kind='gate': one of concatenate, film"),
        (
            lambda: Context(1, "layers", "concatenate", residual=True),
            r"algorithm\.adapted\.residual=true: for .*kind=film only",
        ),
        (lambda: Context(1, "(", "film").attach(made_mlp()), r"algorithm\.adapted\.at='\(' is not a regular expression"),
        (lambda: Context(1, "conv", "film").attach(made_mlp()), r"at='conv' matches no module .* has layers\.0"),
        (lambda: Context(1, "norms", "concatenate").attach(made_mlp()), r"no Linear or Conv2d .* has layers\.0, layers\.1"),
        (lambda: Context(1, r"norms\.0", "film").attach(made_mlp()), r"matches norms\.0, which has no weights"),
        (lambda: LowRank(0), r"algorithm\.adapted\.rank=0: at least 1"),
        (lambda: LowRank(1, alpha=0.0), r"algorithm\.adapted\.alpha=0\.0: above 0"),
        (lambda: LowRank(1, at="head").attach(made_mlp()), r"at='head' matches no Linear .* outside its head"),
        (lambda: LowRank(1).attach(MLP((4,), None, hidden=[3])), r"\.head=true .*: .*\.head=false"),
        (lambda: LowRank(1, head=False).attach(nn.Sequential(nn.Conv2d(2, 2, 1, groups=2))), "grouped convolution"),
        (lambda: Warped("conv").attach(made_mlp()), r"at='conv' matches no Linear"),
        (lambda: Warped().attach(MLP((4,), None, hidden=[3])), r"algorithm\.adapted\.head=true"),
        (lambda: Warped().attach(Warped().attach(made_mlp())), "already has an attribute 'warp'"),
    ],
)
def test_what_cannot_work_is_refused(make: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()  # type: ignore[operator]


def test_parts_keep_off_layers_that_are_never_called() -> None:
    """Attention reads its output layer's weight and never calls it, so that a part there would do nothing."""
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8))
    assert LowRank(1, head=False).attach(model) is model
    names = {name.rsplit(".low_rank")[0] for name in LowRank(1, head=False).names(model)}
    assert names == {"0.linear1", "0.linear2"}


def test_all_adapts_what_the_model_has() -> None:
    assert All().names(made_mlp()) == tuple(name for name, _ in made_mlp().named_parameters())
