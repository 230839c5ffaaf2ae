"""Rules that are meta-learned: what they compute, against formulas written out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.coordinates import LSTMCell, joined, log_and_sign, parted
from metaloop.inner.rules.curvature import MetaCurvature
from metaloop.inner.rules.generated_rates import GeneratedRates
from metaloop.inner.rules.learned_optimizer import LearnedOptimizer
from metaloop.inner.rules.learned_rates import LearnedRate, LearnedRateAndDecay
from metaloop.inner.rules.meta_lstm import MetaLSTM
from metaloop.inner.rules.rule import GradientDescent, InnerRule
from metaloop.types import Params

LOSS = torch.tensor(0.7, dtype=torch.float64)
SHAPES = {"conv.weight": (2, 3, 2, 2), "linear.weight": (4, 5), "head.bias": (3,), "scale": ()}


def vectors(seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Params:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}


def shaken(rule: InnerRule, size: float = 0.3) -> InnerRule:
    """Every meta-parameter away from its start."""
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in rule.parameters():
            value.add_(size * torch.randn(value.shape, generator=random, dtype=value.dtype))
    return rule


def steps(rule: InnerRule, number: int, params: Params, gradients: Params) -> tuple[Params, Params]:
    state = rule.init(params)
    for step in range(number):
        params, state = rule.step(gradients, state, params, step, LOSS)
    return params, state


@pytest.mark.parametrize(
    "build",
    [
        lambda p: LearnedRate(p, 0.2, "tensor", steps=2),
        lambda p: LearnedRate(p, 0.2, "element", steps=2),
        lambda p: MetaCurvature(p, 0.2),
        lambda p: MetaCurvature(p, 0.2, learn_lr=True),
        lambda p: GeneratedRates(p, 0.2, decay=0.5, steps=2),
    ],
    ids=["per tensor and step", "per element and step", "curvature", "curvature and rate", "generated rates"],
)
def test_training_starts_as_maml(build: type[InnerRule]) -> None:
    params, gradients = vectors(0), vectors(1)
    plain, _ = steps(GradientDescent(params, lr=0.2), 3, params, gradients)
    found, state = steps(build(params), 3, params, gradients)
    assert state == {}
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value)


def test_rates_of_each_step_and_the_last_one_afterwards() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = LearnedRate(params, 0.1, "tensor", steps=2)
    assert rule.rates["head/bias"].shape == (2,)
    with torch.no_grad():
        rule.rates["head/bias"].copy_(torch.tensor([0.5, -2.0]))
    for step, rate in ((0, 0.5), (1, -2.0), (2, -2.0), (9, -2.0)):
        after, _ = rule.step(gradients, {}, params, step, LOSS)
        torch.testing.assert_close(after["head.bias"], params["head.bias"] - rate * gradients["head.bias"])
        torch.testing.assert_close(after["scale"], params["scale"] - 0.1 * gradients["scale"])
    assert LearnedRate(params, 0.1, "element", steps=2).rates["conv/weight"].shape == (2, 2, 3, 2, 2)


def test_rate_and_decay_are_their_formula_and_stay_positive() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = LearnedRateAndDecay(params, lr=0.2, weight_decay=0.05)
    assert [name for name, _ in rule.named_parameters()] == ["log_lr", "log_weight_decay"]
    for rate, decay in ((0.2, 0.05), (0.2 * math.exp(-3), 0.05 * math.exp(-3))):
        after, _ = rule.step(gradients, {}, params, 0, LOSS)
        for name, value in params.items():
            torch.testing.assert_close(after[name], value - rate * (gradients[name] + decay * value))
        with torch.no_grad():
            for parameter in rule.parameters():
                parameter.sub_(3.0)


def test_curvature_is_the_product_with_every_mode() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = shaken(MetaCurvature(params, 0.2, learn_lr=True))
    factors = {name: value.detach() for name, value in rule.factors.items()}
    assert {name: tuple(value.shape) for name, value in factors.items()} == {
        "conv/weight/out": (2, 2), "conv/weight/in": (3, 3), "conv/weight/filter": (4, 4),
        "linear/weight/out": (4, 4), "linear/weight/in": (5, 5), "head/bias/scale": (3,), "scale/scale": (),
    }  # fmt: skip
    after, _ = rule.step(gradients, {}, params, 0, LOSS)
    rate = rule.rate.item()
    assert rate != 0.2
    moves = {name: (params[name] - after[name]).detach() / rate for name in params}
    conv = gradients["conv.weight"].flatten(2)
    modes = [factors[f"conv/weight/{mode}"] for mode in ("out", "in", "filter")]
    expected = torch.einsum("oif,Oo,Ii,Ff->OIF", conv, *modes).reshape(2, 3, 2, 2)
    torch.testing.assert_close(moves["conv.weight"], expected)
    linear = factors["linear/weight/out"] @ gradients["linear.weight"] @ factors["linear/weight/in"].T
    torch.testing.assert_close(moves["linear.weight"], linear)
    torch.testing.assert_close(moves["head.bias"], factors["head/bias/scale"] * gradients["head.bias"])
    torch.testing.assert_close(moves["scale"], factors["scale/scale"] * gradients["scale"])


def test_curvature_of_one_by_one_filters_and_of_sequences() -> None:
    params = vectors(0, {"point": (2, 3, 1, 1), "sequence": (2, 3, 5)})
    rule = MetaCurvature(params, 0.2)
    assert set(rule.factors) == {"point/out", "point/in", "sequence/out", "sequence/in", "sequence/filter"}
    assert "rate" not in dict(rule.named_parameters())
    after, _ = rule.step(params, {}, params, 0, LOSS)
    assert after["point"].shape == (2, 3, 1, 1)


def test_curvature_refuses_an_axis_without_an_affordable_matrix() -> None:
    with pytest.raises(UserError, match=r"embedding \(9000, 2\) would need a matrix with more than 8192 rows"):
        MetaCurvature({"embedding": torch.zeros(9000, 2)}, 0.2)


def test_generated_rates_are_their_formula() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = shaken(GeneratedRates(params, 0.2, decay=0.5, steps=2))
    seen = torch.tensor([value.mean() for value in (*gradients.values(), *params.values())], dtype=torch.float64)
    with torch.no_grad():
        hidden = (rule.hidden.weight @ seen + rule.hidden.bias).clamp(min=0)
        made = rule.last.weight @ hidden + rule.last.bias
        for step, row in ((0, 0), (1, 1), (5, 1)):
            after, state = rule.step(gradients, {}, params, step, LOSS)
            assert state == {}
            for i, name in enumerate(params):
                alpha, beta = rule.rates[row, i] * made[i], 1 - rule.decays[row, i] * made[4 + i]
                torch.testing.assert_close(after[name], beta * params[name] - alpha * gradients[name])


def test_generated_rates_read_tensors_by_name_not_by_order() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = shaken(GeneratedRates(params, 0.2, decay=0.5, steps=1))
    after, _ = rule.step(gradients, {}, params, 0, LOSS)
    again, _ = rule.step(dict(reversed(gradients.items())), {}, params, 0, LOSS)
    assert all(torch.equal(after[name], again[name]) for name in params)


def test_joining_and_parting_are_inverse() -> None:
    params = vectors(0)
    flat = joined(params)
    assert flat.shape == (2 * 3 * 4 + 20 + 3 + 1,)
    for name, value in parted(flat, params).items():
        assert torch.equal(value, params[name])


def test_log_and_sign_is_the_papers() -> None:
    values = [2.0, -0.5, math.exp(-10) * 1.001, -math.exp(-10) * 0.999, 1e-7, 0.0]
    expected = [
        (math.log(abs(v)) / 10, math.copysign(1, v)) if abs(v) >= math.exp(-10) else (-1, math.exp(10) * v) for v in values
    ]
    found = log_and_sign(torch.tensor(values, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    at = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(log_and_sign(at).sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), at)
    assert first.isfinite().all()
    assert second.isfinite().all()


def torchs(cell: LSTMCell, inputs: int, hidden: int) -> nn.LSTMCell:
    """torch's cell with the same weights; it orders the gates input, forget, new, output."""
    theirs = nn.LSTMCell(inputs, hidden, dtype=torch.float64)
    with torch.no_grad():
        order = [1, 0, 3, 2]
        blocks = cell.weight.chunk(4, 1)
        whole = torch.cat([blocks[i] for i in order], 1).T
        theirs.weight_ih.copy_(whole[:, :inputs])
        theirs.weight_hh.copy_(whole[:, inputs:])
        theirs.bias_ih.copy_(torch.cat([cell.bias.chunk(4)[i] for i in order]))
        theirs.bias_hh.zero_()
    return theirs


def test_the_cell_is_torchs() -> None:
    cell = LSTMCell(3, 5, torch.float64)
    x, output, kept = torch.randn(7, 3).double(), torch.randn(7, 5).double(), torch.randn(7, 5).double()
    for ours, theirs in zip(cell(x, output, kept), torchs(cell, 3, 5)(x, (output, kept)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("preprocess", [True, False])
def test_the_learned_optimiser_is_a_stack_of_cells_for_every_coordinate(preprocess: bool) -> None:
    params, gradients = vectors(0), vectors(1)
    rule = LearnedOptimizer(params, hidden=4, layers=2, scale=0.5, preprocess=preprocess)
    inputs = 2 if preprocess else 1
    first, second = torchs(rule.cells[0], inputs, 4), torchs(rule.cells[1], 4, 4)
    flat, slope = joined(params), joined(gradients)
    with torch.no_grad():
        found, _ = steps(rule, 3, params, gradients)
        for i in range(len(flat)):  # one coordinate after the other
            x = log_and_sign(slope[i : i + 1]) if preprocess else slope[i : i + 1, None]
            low = high = None
            at = flat[i]
            for _ in range(3):
                low = first(x, low)
                high = second(low[0], high)
                at = at + 0.5 * rule.answer(high[0])[0, 0]
            torch.testing.assert_close(joined(found)[i], at)


def test_the_learned_optimiser_serves_another_network() -> None:
    rule = LearnedOptimizer(vectors(0))
    other = vectors(0, {"w": (7, 7)})
    after, state = steps(rule, 2, other, other)
    assert after["w"].shape == (7, 7)
    assert {name: tuple(value.shape) for name, value in state.items()} == dict.fromkeys(
        ("output0", "cell0", "output1", "cell1"), (49, 20)
    )


def by_hand(rule: MetaLSTM, at: Tensor, slope: Tensor, number: int) -> Tensor:
    """Ravi and Larochelle's update of one coordinate."""
    reader = torchs(rule.reader, 4, rule.hidden)
    seen = torch.cat([log_and_sign(slope), log_and_sign(LOSS)])[None]
    kept, forget, enter = None, torch.zeros(1).double(), torch.zeros(1).double()
    for _ in range(number):
        kept = reader(seen, kept)
        forget = torch.sigmoid(rule.forget.weight[0] @ torch.cat([kept[0][0], at[None], forget]) + rule.forget.bias)
        enter = torch.sigmoid(rule.input.weight[0] @ torch.cat([kept[0][0], at[None], enter]) + rule.input.bias)
        at = (forget * at - enter * slope)[0]
    return at


def test_meta_lstm_is_its_equations_for_every_coordinate() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = shaken(MetaLSTM(params, hidden=4))
    with torch.no_grad():
        found, _ = steps(rule, 3, params, gradients)
        for after, at, slope in zip(joined(found), joined(params), joined(gradients), strict=True):
            torch.testing.assert_close(after, by_hand(rule, at, slope, 3))


def test_meta_lstm_starts_near_slow_descent_and_reads_the_loss() -> None:
    params, gradients = vectors(0), vectors(1)
    rule = MetaLSTM(params)
    rate, decay = (1 / (1 + math.exp(-bias)) for bias in (-4.5, 5.0))
    after, state = rule.step(gradients, rule.init(params), params, 0, LOSS)
    for name, value in params.items():
        torch.testing.assert_close(after[name], decay * value - rate * gradients[name], rtol=0, atol=3e-3)
    other, _ = rule.step(gradients, rule.init(params), params, 0, 3 * LOSS)
    assert not torch.equal(joined(after), joined(other))
    assert 0.99 < state["forget"].min() < state["forget"].max() < 1


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda p: LearnedRate(p, 0.1, "tensor", steps=0), r"rule\.steps=0: at least 1"),
        (lambda p: LearnedRateAndDecay(p, lr=0.1, weight_decay=0.0), r"rule\.weight_decay=0\.0: above 0"),
        (lambda p: LearnedRateAndDecay(p, lr=0.0, weight_decay=0.1), r"rule\.lr=0\.0"),
        (lambda p: MetaCurvature(p, lr=0.0), r"rule\.lr=0\.0"),
        (lambda p: GeneratedRates(p, lr=0.1, decay=0.0, steps=1), r"rule\.decay=0\.0: above 0"),
        (lambda p: GeneratedRates(p, lr=0.1, decay=0.1, steps=0), r"rule\.steps=0"),
        (lambda p: GeneratedRates(p, lr=-0.1, decay=0.1, steps=1), r"rule\.lr=-0\.1"),
        (lambda p: LearnedOptimizer(p, hidden=0), r"rule\.hidden=0: at least 1"),
        (lambda p: LearnedOptimizer(p, layers=0), r"rule\.layers=0: at least 1"),
        (lambda p: LearnedOptimizer(p, scale=0.0), r"rule\.scale=0\.0: above 0"),
        (lambda p: MetaLSTM(p, hidden=0), r"rule\.hidden=0: at least 1"),
        (lambda p: MetaLSTM({}), r"algorithm\.adapted"),
    ],
)
def test_values_that_make_no_sense_are_refused(build: type[InnerRule], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(vectors(0))
