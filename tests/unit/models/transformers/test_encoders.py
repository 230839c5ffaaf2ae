"""Encoders of several architectures in the inner loop: what adapts, exact second order, and what is constant in a task."""

from functools import partial

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradients.meta_gradient import FirstOrder, MetaGradient, Unrolled
from metaloop.inner.meta_gradients.reverse_sweep import ReverseSweep
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import Adapted, All, Body, Head, Pattern
from metaloop.inner.selection.low_rank import LowRank
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.models.transformers.encoder_check import check_encoder
from metaloop.models.transformers.text_encoder import TextClassifier
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Tasks

_SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
_SIZES |= {"max_position_embeddings": 12, "initializer_range": 0.3}
CONFIGS = {
    "bert": _SIZES,
    "roberta": _SIZES,
    "electra": _SIZES | {"embedding_size": 6},
    "albert": _SIZES | {"embedding_size": 6},
    "distilbert": {
        "vocab_size": 30,
        "dim": 8,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 16,
        "max_position_embeddings": 12,
        "initializer_range": 0.3,
    },
}
ADAPTED = {
    "all": All(),
    "head": Head(),
    "body": Body(),
    "biases": Pattern(r"(^|\.)bias$|^head\."),
    "pattern": Pattern(r"layer\.1\.|^head\."),
    "low_rank": LowRank(2, at=r"layer\.1\..*(query|value|q_lin|v_lin)"),
}
WAYS, LENGTH = 3, 6


def encoder(kind: str = "bert", outputs: int | None = WAYS, **settings: object) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier((LENGTH,), outputs, config={"model_type": kind} | CONFIGS[kind], **settings).double()  # type: ignore[arg-type]


def tokens(*shape: int) -> dict[str, Tensor]:
    lengths = torch.randint(2, LENGTH + 1, (*shape, 1))
    mask = (torch.arange(LENGTH) < lengths).long()
    return {"input_ids": torch.randint(3, 30, (*shape, LENGTH)) * mask, "attention_mask": mask}


def some_tasks(tasks: int = 2, shots: int = 2) -> Tasks:
    torch.manual_seed(1)
    labels = torch.arange(WAYS).repeat_interleave(shots).expand(tasks, -1)
    parts = [Examples(tokens(tasks, WAYS * shots), labels, None, WAYS) for _ in range(2)]
    return Tasks(parts[0], parts[1], torch.arange(tasks))


def learner(
    model: TextClassifier,
    adapted: Adapted,
    meta_gradient: MetaGradient | None = None,
    over_tasks: OverTasks | None = None,
    steps: int = 2,
) -> GradientLearner:
    parts = meta_gradient or Unrolled(), LastStep(), Learned(), over_tasks or Loop()
    return GradientLearner(model, CrossEntropy(), adapted, partial(GradientDescent, lr=0.5), *parts, steps).double()


def meta_gradient(made: GradientLearner, tasks: Tasks) -> dict[str, Tensor]:
    made.zero_grad()
    made.meta_loss(tasks).loss.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in made.named_parameters() if p.requires_grad}


def assert_finite_differences(made: GradientLearner, tasks: Tasks, gradients: dict[str, Tensor]) -> None:
    """The derivative along a random direction of all meta-parameters, against a central difference."""
    torch.manual_seed(2)
    params = {n: p for n, p in made.named_parameters() if p.requires_grad}
    direction = {n: torch.randn_like(p) for n, p in params.items()}
    losses = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            for name, value in params.items():
                value.add_(step * direction[name])
        losses.append(made.meta_loss(tasks).loss.item())
        with torch.no_grad():
            for name, value in params.items():
                value.sub_(step * direction[name])
    along = sum((gradients[name] * direction[name]).sum().item() for name in params)
    assert along == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("adapted", ADAPTED)
@pytest.mark.parametrize("kind", CONFIGS)
def test_meta_gradients_agree_with_finite_differences_and_under_vmap(kind: str, adapted: str) -> None:
    if kind == "albert" and adapted in ("pattern", "low_rank"):
        choice: Adapted = Pattern("ffn") if adapted == "pattern" else LowRank(2, at="query|value")  # its layers are one
    else:
        choice = ADAPTED[adapted]
    tasks = some_tasks()
    gradients = {}
    for over in (Loop(), Vmap()):
        made = learner(encoder(kind), choice, over_tasks=over)
        gradients[over.name] = meta_gradient(made, tasks)
    assert_finite_differences(made, tasks, gradients["loop"])
    for name, value in gradients["loop"].items():
        torch.testing.assert_close(gradients["vmap"][name], value, rtol=1e-7, atol=1e-11)
    first_order = meta_gradient(learner(encoder(kind), choice, FirstOrder()), tasks)
    assert any(not torch.allclose(first_order[name], value, rtol=1e-3) for name, value in gradients["loop"].items())


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention"])
def test_every_pooling_carries_second_order(pooling: str) -> None:
    tasks, made = some_tasks(), learner(encoder(pooling=pooling), All())
    with torch.no_grad():
        for name, value in made.named_parameters():
            if name.endswith("pooling.query"):
                value.normal_()
    assert_finite_differences(made, tasks, meta_gradient(made, tasks))


def test_a_projection_is_learned_and_adapts() -> None:
    tasks, made = some_tasks(), learner(encoder(projection=8), Pattern(r"^projection\.|^head\."))
    torch.testing.assert_close(made.model.projection.weight, torch.eye(8).double())
    gradients = meta_gradient(made, tasks)
    assert gradients["model.projection.weight"].abs().max() > 0
    assert_finite_differences(made, tasks, gradients)


def test_a_word_is_the_state_of_its_first_token_however_words_are_read() -> None:
    torch.manual_seed(0)
    made = encoder(outputs=None)
    sentences = tokens(3)
    words = {name: value.repeat_interleave(torch.tensor([2, 1, 4]), 0) for name, value in sentences.items()}
    words["place"] = torch.tensor([1, 5, 2, 0, 1, 2, 5])[:, None]
    expected = made._states(sentences)[[0, 0, 1, 2, 2, 2, 2], words["place"][:, 0]]
    torch.testing.assert_close(made(words), expected)
    stacked = {name: torch.stack([value, value.flip(0)]) for name, value in words.items()}
    torch.testing.assert_close(torch.func.vmap(made)(stacked), torch.stack([expected, expected.flip(0)]))
    part = made.constant_part(["encoder.encoder.layer.1.output.dense.bias"])
    assert part is not None
    torch.testing.assert_close(made(part(words)), expected)


@pytest.mark.parametrize("method", [Unrolled(), ReverseSweep()])
@pytest.mark.parametrize("kind", CONFIGS)
def test_below_frozen_layers_are_called_once_and_change_nothing(kind: str, method: MetaGradient) -> None:
    """Adapters in the last block: what is below gets no graph and one call for each set, whatever the number of steps."""
    tasks = some_tasks()
    choice = LowRank(2, at="query|q_lin" if kind == "albert" else r"layer\.1\..*(query|q_lin)", freeze_base=True)
    made = learner(encoder(kind), choice, method, steps=3)
    calls: list[bool] = []
    embeddings = made.model.encoder.embeddings
    embeddings.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    gradients = meta_gradient(made, tasks)
    # ALBERT calls the same layer over and over, so nothing is below it.
    assert (calls == [False, False]) == (kind != "albert")
    assert all(name.startswith("model.head.") or "low_rank" in name for name in gradients)
    assert_finite_differences(made, tasks, gradients)
    whole = learner(encoder(kind), choice, method, steps=3)
    whole._constant.call = None
    for name, value in meta_gradient(whole, tasks).items():
        torch.testing.assert_close(gradients[name], value, rtol=1e-9, atol=1e-12)
    for one, other in zip(_curves(made, tasks), _curves(whole, tasks), strict=True):
        torch.testing.assert_close(one, other)


def _curves(made: GradientLearner, tasks: Tasks) -> Tensor:
    return made.eval().adapt(tasks.support).curve(tasks.query.x)


def test_adapting_calls_what_does_not_adapt_once() -> None:
    """Meta-training changes all of it, so that every step counts; at meta-test the last block alone moves."""
    tasks, calls = some_tasks(), []
    made = learner(encoder(), ADAPTED["pattern"], steps=3)
    made.model.encoder.encoder.layer[0].register_forward_hook(lambda *_: calls.append(1))
    found = _curves(made, tasks)
    assert len(calls) == 2 + 3 * made.model._splits[1]  # each set once, and the look at whether blocks can be called alone
    made.model.constant_part = lambda moving: None
    torch.testing.assert_close(found, _curves(made, tasks))
    assert len(calls) > 8


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("deberta", {}, "not finite|same states"),  # it multiplies embeddings by the mask
        ("fnet", {}, "reads padding"),
        ("convbert", {"embedding_size": 8}, "reads padding"),
        ("nystromformer", {}, "reads padding"),
        ("gpt2", {"pad_token_id": 0}, "a decoder"),
        ("longformer", {}, "fails on a short text .IndexError"),
    ],
)
@pytest.mark.parametrize("length", [2, LENGTH])
def test_encoders_that_read_otherwise_are_refused(kind: str, more: dict[str, int], message: str, length: int) -> None:
    torch.manual_seed(0)
    special = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    with pytest.raises(UserError, match=f"model_type={kind} .*({message}).*take bert"):
        TextClassifier((length,), WAYS, config=_SIZES | special | more | {"model_type": kind, "initializer_range": 0.02})


@pytest.mark.parametrize("vocabulary", [3, 4, 30])
@pytest.mark.parametrize("length", [1, 2, 12])
def test_the_shortest_texts_and_smallest_vocabularies_pass_the_check(length: int, vocabulary: int) -> None:
    made = TextClassifier(
        (length,), WAYS, config=CONFIGS["bert"] | {"model_type": "bert", "vocab_size": vocabulary}, dropout=0.5
    )
    assert made.training
    assert made.encoder.training
    state = torch.get_rng_state()
    check_encoder(made.encoder, made._states, length)
    assert torch.equal(torch.get_rng_state(), state)


def test_on_the_meta_device_nothing_is_read() -> None:
    with torch.device("meta"):
        made = TextClassifier((LENGTH,), WAYS, config=CONFIGS["bert"] | {"model_type": "bert"})
    assert {parameter.device.type for parameter in made.parameters()} == {"meta"}


@pytest.mark.parametrize("kind", ["mpnet", "roformer", "ibert"])
def test_blocks_that_are_told_more_than_states_are_not_called_alone(kind: str) -> None:
    """Relative places, rotations, scales of quantisation: of weights this small no numbers tell."""
    torch.manual_seed(0)
    settings = _SIZES | {"model_type": kind, "initializer_range": 1e-3, "embedding_size": 8}
    made = TextClassifier((LENGTH,), WAYS, config=settings)
    part = made.constant_part([name for name, _ in made.named_parameters() if "layer.1." in name])
    assert part is None


def test_constant_states_have_one_shape_whatever_the_texts() -> None:
    """A compiled step would be compiled again for another."""
    made, x = encoder(), tokens(4)
    part = made.constant_part(["encoder.encoder.layer.1.output.dense.bias"])
    assert part is not None
    for longest in (2, 4, LENGTH):
        x["attention_mask"] = (torch.arange(LENGTH) < torch.tensor([1, longest, 2, 1])[:, None]).long()
        found = part(x)
        assert {value.shape[:2] for value in found.values()} == {(4, LENGTH)}
        torch.testing.assert_close(made(found), made(x))


def test_with_dropout_nothing_is_constant_in_training() -> None:
    model = encoder(dropout=0.1)
    assert model.train().constant_part(["head.weight"]) is None
    assert model.eval().constant_part(["head.weight"]) is not None


def test_padding_is_read_only_where_shapes_must_stay() -> None:
    torch.manual_seed(0)
    made, x, lengths = encoder(), tokens(3), []
    x["attention_mask"] = (torch.arange(LENGTH) < torch.tensor([3, 1, 2])[:, None]).long()
    weight = made.encoder.embeddings.word_embeddings.weight
    made.encoder.embeddings.register_forward_hook(lambda *args: lengths.append(args[-1].shape[1]))

    def second(answer: Tensor) -> Tensor:
        first = torch.autograd.grad(answer.square().sum(), made.head.weight, create_graph=True)[0]
        return torch.autograd.grad(first.square().sum(), weight)[0]

    short, whole = made(x), torch.func.vmap(made)({name: value[None] for name, value in x.items()})[0]
    assert lengths == [3, LENGTH]
    torch.testing.assert_close(short, whole)
    torch.testing.assert_close(second(short), second(whole))
