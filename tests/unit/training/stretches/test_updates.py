"""Optimisers, clipping and schedules as pure functions take the steps of torch's own, in float64."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from bowl import Bowl, batch, start
from metaloop.training.stretches.captured import Clipping, StepFunction, leaves_of
from metaloop.training.stretches.capturing import NotCapturedError, optimizer_state
from metaloop.training.stretches.updates import update_of

STEPS = 40
OPTIMIZERS: dict[str, Any] = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "sgd, weight decay, maximise": partial(torch.optim.SGD, lr=0.01, weight_decay=0.3, maximize=True),
    "momentum, dampening": partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": partial(torch.optim.Adam, lr=0.1, betas=(0.8, 0.95), eps=1e-4),
    "adam, fused, weight decay": partial(torch.optim.Adam, lr=0.1, weight_decay=0.1, fused=True),
    "adam, decoupled": partial(torch.optim.Adam, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "adamw, maximise": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.2, maximize=True),
}
CLIPPINGS = {"none": Clipping(None, by_norm=True), "norm": Clipping(0.5, by_norm=True), "value": Clipping(0.2, by_norm=False)}
SCHEDULES: dict[str, Any] = {
    "none": lambda optimizer: None,
    "cosine": partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=STEPS),
    "linear": partial(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=STEPS),
    "steps": partial(torch.optim.lr_scheduler.StepLR, step_size=7, gamma=0.5),
}


def torch_steps(parameters: dict[str, Tensor], optimizer: Any, schedule: Any, clipping: Clipping, span: range) -> None:
    for step in span:
        for name, gradient in Bowl().outer_gradient(parameters, batch(step), None)[0].items():  # type: ignore[arg-type]
            parameters[name].grad = gradient.detach().clone()
        if clipping.limit and clipping.by_norm:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clipping.limit)
        elif clipping.limit:
            torch.nn.utils.clip_grad_value_(parameters.values(), clipping.limit)
        optimizer.step()
        if schedule:
            schedule.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("clipping", "schedule"), [("none", "none"), ("norm", "cosine"), ("value", "linear"), ("norm", "steps")]
)
def test_a_pure_step_equals_torchs(optimizer: str, clipping: str, schedule: str) -> None:
    """The trajectory, and the state that is written back, which torch goes on with."""
    ends = []
    for pure in (False, True):
        parameters = start()
        theirs = OPTIMIZERS[optimizer](list(parameters.values()))
        rates = SCHEDULES[schedule](theirs)
        torch_steps(parameters, theirs, rates, CLIPPINGS[clipping], range(1))
        if pure:
            state = optimizer_state(theirs, parameters)
            table = []
            for _ in range(1, STEPS):
                table.append(state.rate)
                if rates:
                    rates.step()
            function = StepFunction(Bowl(), state.layout, state.update, CLIPPINGS[clipping], leaves_of(batch(0))[1])
            vector, buffers = state.read()
            for step, numbers in enumerate(state.table(table), 1):
                vector, _, _, *buffers = function(vector, numbers, *buffers, *leaves_of(batch(step))[0])
            state.write(vector, buffers, STEPS - 1)
        else:
            torch_steps(parameters, theirs, rates, CLIPPINGS[clipping], range(1, STEPS))
        torch_steps(parameters, theirs, rates, CLIPPINGS[clipping], range(STEPS, STEPS + 3))
        ends.append({name: value.detach() for name, value in parameters.items()})
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-10, atol=1e-12)


def test_what_an_update_cannot_do_is_said() -> None:
    parameters = list(start().values())
    assert "NAdam" in str(update_of(torch.optim.NAdam(parameters)))
    assert "amsgrad" in str(update_of(torch.optim.Adam(parameters, amsgrad=True)))
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.1}]
    assert "2 parameter groups" in str(update_of(torch.optim.SGD(groups, lr=0.2)))


def test_parameters_that_the_optimiser_has_not_all_moved_are_refused() -> None:
    parameters = start()
    optimizer = torch.optim.Adam(list(parameters.values()))
    parameters["a"].grad = torch.ones_like(parameters["a"])
    optimizer.step()
    with pytest.raises(NotCapturedError, match="alike"):
        optimizer_state(optimizer, parameters)
