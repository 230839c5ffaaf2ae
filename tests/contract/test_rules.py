"""The contracts of inner rules, objectives, head starts and choices of adapted parameters."""

import copy

import pytest
import torch
from made_tasks import made_model
from members import ADAPTED, DESCENDING, HEAD_INITS, MODELS, OBJECTIVES, OF_OTHER_NAMES, RULES
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Examples, Params

every_rule = pytest.mark.parametrize("rule", RULES)


def vectors(seed: int, tasks: tuple[int, ...] = ()) -> Params:
    random = torch.Generator().manual_seed(seed)
    shapes = {"body.weight": (3, 2), "head.bias": (3,)}
    return {n: torch.randn(*tasks, *shape, generator=random, dtype=torch.float64) for n, shape in shapes.items()}


def floats(params: Params, dtype: torch.dtype) -> Params:
    return {name: value.to(dtype) for name, value in params.items()}


def run(rule: InnerRule, params: Params, gradients: Params) -> tuple[Params, Params]:
    """Take three steps with the same gradient."""
    state = rule.init(params)
    for step in range(3):
        loss = sum(gradient.sum() for gradient in gradients.values())  # any scalar
        params, state = rule.step(gradients, state, params, step, loss)
    return params, state


@every_rule
def test_steps_are_pure(rule: str) -> None:
    params, gradients = vectors(0), vectors(1)
    made = RULES[rule](params)
    before = copy.deepcopy((params, gradients, made.state_dict()))
    first, second = run(made, params, gradients), run(made, params, gradients)
    for now, then in zip((params, gradients, made.state_dict(), *second), (*before, *first), strict=True):
        assert now.keys() == then.keys()
        assert all(torch.equal(now[name], then[name]) for name in now)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_keeps_names_shapes_and_type(rule: str, dtype: torch.dtype) -> None:
    params, gradients = (floats(vectors(seed), dtype) for seed in (0, 1))
    made = RULES[rule](params)
    assert {value.dtype for value in made.parameters()} <= {dtype}
    after, state = run(made, params, gradients)
    assert list(after) == list(params)
    for before, now in ((params, after), (made.init(params), state)):
        assert before.keys() == now.keys()
        for name, value in before.items():
            assert now[name].shape == value.shape
            assert now[name].dtype == value.dtype == dtype
            assert now[name].isfinite().all()


@pytest.mark.parametrize("rule", DESCENDING)
def test_it_descends(rule: str) -> None:
    params, gradients = vectors(0), vectors(1)
    after, _ = run(DESCENDING[rule](params), params, gradients)
    for name, value in params.items():
        assert ((after[name] - value) * gradients[name] < 0).all()


@every_rule
def test_meta_gradients_are_finite_where_gradients_are_zero(rule: str) -> None:
    for sizes in ((0.0, 0.0), (0.0, 1.0)):  # everywhere, or in one tensor, as behind a dead ReLU
        params = {name: value.requires_grad_() for name, value in vectors(0).items()}
        slopes = {n: (size * g).requires_grad_() for (n, g), size in zip(vectors(1).items(), sizes, strict=True)}
        made = RULES[rule](params)
        after, state = run(made, params, slopes)
        inputs = [*params.values(), *slopes.values(), *made.parameters()]
        out = torch.stack([value.square().sum() for value in (*after.values(), *state.values())]).sum()
        first = torch.autograd.grad(out, inputs, create_graph=True, materialize_grads=True, allow_unused=True)
        total = torch.stack([value.square().sum() for value in first]).sum()
        second = torch.autograd.grad(total, inputs, materialize_grads=True, allow_unused=True)
        assert all(value.isfinite().all() for value in (*first, *second))


@every_rule
def test_it_traces_to_a_graph_that_computes_the_same(rule: str) -> None:
    """Compiled strategies need this: no branch on a value, no ``item()`` of a tensor."""
    made = RULES[rule](vectors(0))
    with torch.no_grad():
        graph = make_fx(lambda p, g: run(made, p, g))(vectors(0), vectors(1))
        for seeds in ((0, 1), (2, 3)):
            params, gradients = (vectors(seed) for seed in seeds)
            for traced, plain in zip(graph(params, gradients), run(made, params, gradients), strict=True):
                assert traced.keys() == plain.keys()
                for name, value in plain.items():
                    torch.testing.assert_close(traced[name], value)


@every_rule
def test_stacked_tasks_under_vmap_equal_the_loop(rule: str) -> None:
    params, gradients = vectors(0, (4,)), vectors(1, (4,))
    made = RULES[rule](vectors(0))
    stacked, state = torch.func.vmap(lambda p, g: run(made, p, g))(params, gradients)
    for i in range(4):
        alone, own = run(made, {n: v[i] for n, v in params.items()}, {n: v[i] for n, v in gradients.items()})
        for name in alone:
            torch.testing.assert_close(stacked[name][i], alone[name])
        for name in own:
            torch.testing.assert_close(state[name][i], own[name])


@every_rule
def test_it_is_differentiable_in_everything(rule: str) -> None:
    params, gradients = vectors(0), vectors(1)
    made = RULES[rule](params)
    names, own = list(params), list(dict(made.named_parameters()))
    inputs = [*params.values(), *gradients.values(), *made.parameters()]

    class Run(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = made

        def forward(self, at: Params, slope: Params) -> tuple[Params, Params]:
            return run(self.made, at, slope)

    def flat(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        at, slope, rest = values[:2], values[2:4], values[4:]
        parameters = {"made." + n: v for n, v in zip(own, rest, strict=True)}
        arguments = (dict(zip(names, at, strict=True)), dict(zip(names, slope, strict=True)))
        after, state = functional_call(Run(), parameters, arguments)
        return (*after.values(), *(value for name, value in state.items() if name != "count"))  # of steps: a constant

    # Scores have a straight-through gradient by design, see tests/unit/inner/rules/test_masked.py.
    smooth = [not name.startswith("scores") for name in (*names, *names, *own)]
    leaves = [value.detach().clone().requires_grad_(of) for value, of in zip(inputs, smooth, strict=True)]
    assert torch.autograd.gradcheck(flat, leaves)
    for output in flat(*leaves):
        assert output.requires_grad


@pytest.mark.parametrize("steps", [2])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_weigh_start_and_steps_to_one(objective: str, steps: int) -> None:
    weights = OBJECTIVES[objective].weights(steps, 0)
    assert len(weights) == steps + 1
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0


@pytest.mark.parametrize("model", [name for name in MODELS if name not in OF_OTHER_NAMES])
@pytest.mark.parametrize("adapted", ADAPTED)
def test_adapted_names_are_the_models_in_its_order(adapted: str, model: str) -> None:
    made = ADAPTED[adapted].attach(made_model(model))
    names = ADAPTED[adapted].names(made)
    everything = [name for name, _ in made.named_parameters()]
    assert names
    assert [name for name in everything if name in names] == list(names)
    assert (len(names) == len(everything)) is (adapted == "all")


@pytest.mark.parametrize("head_init", HEAD_INITS)
def test_a_head_start_changes_only_the_head(head_init: str) -> None:
    params = {**vectors(0), "head.weight": vectors(1)["body.weight"]}
    support = Examples(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]), ways=3, number=torch.tensor(5))
    start = HEAD_INITS[head_init].start(params, support, lambda at: torch.ones(4, 2, dtype=torch.float64))
    assert list(start) == list(params)
    assert [v.shape for v in start.values()] == [v.shape for v in params.values()]
    assert (start["body.weight"] is params["body.weight"]) is not HEAD_INITS[head_init].redraws
    assert torch.equal(params["head.bias"], vectors(0)["head.bias"])
