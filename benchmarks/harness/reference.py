"""The meta-gradient written with autograd alone. All contestants must agree with it, and its operations are counted."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from harness.cases import Batch, Case, convert, plain_model


def meta_gradient(case: Case, weights: dict[str, Tensor], tasks: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
    """Gradient of the mean query loss of ``tasks`` after ``case.steps`` steps of gradient descent, by parameter."""
    model = plain_model(case).to(dtype)
    model.load_state_dict(weights)
    start = dict(model.named_parameters())
    tasks = convert(tasks, dtype)
    total = {name: torch.zeros_like(value) for name, value in start.items()}
    for i in range(len(tasks["support_x"])):
        loss = _loss(
            case, functional_call(model, _adapt(case, model, start, tasks, i), (tasks["query_x"][i],)), tasks, "query", i
        )
        for (name, _), gradient in zip(start.items(), torch.autograd.grad(loss, list(start.values())), strict=True):
            total[name] += gradient / len(tasks["support_x"])
    return total


def answers(case: Case, weights: dict[str, Tensor], tasks: Batch, dtype: torch.dtype) -> Tensor:
    """(tasks, queries, outputs) predictions for the queries after adaptation."""
    model = plain_model(case).to(dtype)
    model.load_state_dict(weights)
    start = dict(model.named_parameters())
    tasks = convert(tasks, dtype)
    adapted = (_adapt(case, model, start, tasks, i) for i in range(len(tasks["support_x"])))
    return torch.stack([functional_call(model, at, (x,)).detach() for at, x in zip(adapted, tasks["query_x"], strict=True)])


def _adapt(case: Case, model: torch.nn.Module, params: dict[str, Tensor], tasks: Batch, i: int) -> dict[str, Tensor]:
    for _ in range(case.steps):
        loss = _loss(case, functional_call(model, params, (tasks["support_x"][i],)), tasks, "support", i)
        gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: value - case.lr * g for (name, value), g in zip(params.items(), gradients, strict=True)}
    return params


def _loss(case: Case, outputs: Tensor, tasks: Batch, part: str, i: int) -> Tensor:
    y = tasks[f"{part}_y"][i]
    return F.cross_entropy(outputs, y) if case.ways else F.mse_loss(outputs, y)


def operations(case: Case, weights: dict[str, Tensor], tasks: Batch) -> float:
    """Floating-point operations of one task's meta-gradient in convolutions and matrix products, two a multiply-add.

    Counted as torch dispatches them in the loop above; a convolution's double backward is dispatched as convolutions.
    """
    one = {name: value[:1] for name, value in tasks.items()}
    with FlopCounterMode(display=False) as counter:
        meta_gradient(case, weights, one, torch.float32)
    return float(counter.get_total_flops())


def distance(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The norm of the difference over the norm of ``expected``, all tensors together."""
    if got.keys() != expected.keys():
        return float("inf")
    error = sum(float(((got[name].double() - value.double()) ** 2).sum()) for name, value in expected.items())
    return (error / sum(float((value.double() ** 2).sum()) for value in expected.values())) ** 0.5
