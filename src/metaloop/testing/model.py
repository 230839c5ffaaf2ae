"""Check a model against its contract."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.models.adapter import as_model
from metaloop.models.norm import OF_EXAMPLES, norm_modes
from metaloop.testing.laws import require, require_derivative, require_equal, require_same, require_shape
from metaloop.types import Inputs, Params, map_inputs

_EXAMPLES, _OUTPUTS = 6, 3


def check_model(
    build: Callable[[tuple[int, ...], int | None], nn.Module],
    input_shape: tuple[int, ...],
    *,
    inputs: Inputs | None = None,
    vmap: bool = True,
) -> None:
    """Check a model class against the contract of :class:`metaloop.models.model.Model`.

    - A model answers one row for each example, and features if it is built without a head.
    - Examples do not affect each other unless the norms share statistics.
    - Declared sizes are right.
    - First and second derivatives are right.
    - vmap gives the results of a loop.

    Args:
        build: builds the model from ``input_shape`` and ``outputs`` (None for no head), such as the class itself.
        input_shape: shape of one example.
        inputs: six examples (6, *input); None for normal random numbers.
        vmap: whether the model must run under ``torch.func.vmap``.

    Raises:
        BrokenLaw: a law is broken; the message says by how much.
    """
    random = torch.Generator().manual_seed(1)
    x = torch.randn(_EXAMPLES, *input_shape, generator=random, dtype=torch.float64) if inputs is None else inputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(input_shape, _OUTPUTS).double().eval()
        headless = build(input_shape, None).double().eval()
    with torch.no_grad():
        _check_answers(model, headless, x)
        _check_examples(model, x)
        _check_maps(headless, x)
    _check_derivatives(model, x)
    if vmap:
        _check_vmap(model, x)


def _check_answers(model: nn.Module, headless: nn.Module, x: Inputs) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    require_shape(model(x), (_EXAMPLES, _OUTPUTS), "a model built with outputs=3 must answer (examples, 3)")
    require_same(_tensors(model), before, "a call in evaluation mode must change no parameter or buffer")
    features = headless(x)
    require(
        features.ndim == 2, f"a model built with outputs=None must answer (examples, features), not {tuple(features.shape)}"
    )
    declared = as_model(headless).features
    if declared is not None:
        require_shape(features, (_EXAMPLES, declared), f"the model declares {declared} features")
    head = as_model(model).head
    require(
        head is not None,
        "the last layer must be the submodule `head`, by which algorithm/adapted=head and body select parameters",
    )


def _tensors(model: nn.Module) -> Params:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _check_examples(model: nn.Module, x: Inputs) -> None:
    contract, modes = as_model(model), norm_modes(model)
    if not modes.intersection(OF_EXAMPLES):
        law = f"other examples must change no answer; its norms ({', '.join(sorted(modes)) or 'none'}) share nothing"
        require_equal(model(map_inputs(lambda t: t[:3], x)), model(x)[:3], law)
    elif contract.takes_weight:
        weight = torch.arange(_EXAMPLES) < 3
        law = "examples of weight 0 must not count in shared statistics"
        require_equal(model(x, weight)[:3], model(map_inputs(lambda t: t[:3], x))[:3], law)
    else:
        require(False, "the norms share statistics between examples, so forward must take `weight`, or padding would count")


def _check_maps(headless: nn.Module, x: Inputs) -> None:
    shape = as_model(headless).map_shape
    if shape is not None:
        require_shape(headless(x, maps=True), (_EXAMPLES, *shape), f"the model declares feature maps of shape {shape}")


def _value(model: nn.Module, params: Params, x: Inputs) -> Tensor:
    answers: Tensor = functional_call(model, dict(params), (x,))
    return (answers**2).mean()


def _learned(model: nn.Module) -> Params:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _squared_gradient(model: nn.Module, params: Params, x: Inputs) -> Tensor:
    """Compute the squared norm of the gradient, a function of the gradient like an inner step."""
    gradients = torch.func.grad(lambda at: _value(model, at, x))(dict(params))
    return sum(((gradient**2).sum() for gradient in gradients.values()), torch.zeros((), dtype=torch.float64))


def _check_derivatives(model: nn.Module, x: Inputs) -> None:
    parameters = _learned(model)

    def gradient(create_graph: bool) -> Params:
        loss = _value(model, parameters, x)
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        return dict(zip(parameters, gradients, strict=True))

    def squared() -> Tensor:
        return sum(((each**2).sum() for each in gradient(create_graph=True).values()), torch.zeros((), dtype=torch.float64))

    def as_float(function: Callable[[], Tensor]) -> Callable[[], float]:
        def value() -> float:
            with torch.enable_grad():
                return function().item()

        return value

    first = gradient(create_graph=False)
    require_derivative(as_float(lambda: _value(model, parameters, x)), parameters, first, "first derivatives must be right")
    second = torch.autograd.grad(squared(), list(parameters.values()), allow_unused=True, materialize_grads=True)
    law = "second derivatives must be right, since meta-gradients need them"
    require_derivative(as_float(squared), parameters, dict(zip(parameters, second, strict=True)), law)


def _check_vmap(model: nn.Module, x: Inputs) -> None:
    """Compare vmap with a loop on second derivatives, with each half of the examples as a task."""
    params = {name: value.detach() for name, value in _learned(model).items()}
    halves = map_inputs(lambda t: torch.unflatten(t, 0, (2, 3)), x)

    def by_vmap(at: Params) -> Tensor:
        return torch.func.vmap(lambda part: _squared_gradient(model, at, part), randomness="different")(halves).sum()

    def by_loop(at: Params) -> Tensor:
        parts = [map_inputs(lambda t, i=i: t[i], halves) for i in range(2)]  # type: ignore[misc]
        return torch.stack([_squared_gradient(model, at, part) for part in parts]).sum()

    law = "vmap must give the second derivatives of a loop (torch's norms do not: take metaloop.models.norm, or vmap=False)"
    require_same(torch.func.grad(by_vmap)(params), torch.func.grad(by_loop)(params), law)
