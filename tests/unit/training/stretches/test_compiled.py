"""The compiled step equals the plain one: in float64 over tens of steps, and in a whole run up to rounding."""

from functools import partial
from pathlib import Path

import pytest
import torch

from bowl import Bowl, batch, start
from metaloop.system.tensors import load_checkpoint
from metaloop.training.stretches.captured import CapturedStep, Clipping, StepFunction, leaves_of, run_steps
from metaloop.training.stretches.capturing import optimizer_state
from small_runs import trained

pytestmark = pytest.mark.slow
LINES = (
    "algorithm/over_tasks=vmap", "algorithm.over_tasks.checked=false", "trainer.max_steps=40", "validation.every=20",
    "log_every=10", "trainer.gradient_clip_val=1",
)  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1), partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True)],
    ids=["adamw", "nesterov"],
)
def test_compiled_steps_equal_plain_ones_in_double(make: partial[torch.optim.Optimizer]) -> None:
    ends = []
    for compiles in (False, True):
        parameters = start()
        optimizer = make(list(parameters.values()))
        for name, gradient in Bowl().outer_gradient(parameters, batch(0), None)[0].items():  # type: ignore[arg-type]
            parameters[name].grad = gradient.detach().clone()
        optimizer.step()
        state = optimizer_state(optimizer, parameters)
        step = StepFunction(Bowl(), state.layout, state.update, Clipping(0.5, by_norm=True), leaves_of(batch(0))[1])
        vector, buffers = state.read()
        if compiles:
            step = CapturedStep(step, [vector, state.table([0.1])[0], *buffers, *leaves_of(batch(0))[0]])  # type: ignore[assignment]
        batches = [(leaves_of(batch(number))[0], batch(number).index) for number in range(1, 50)]
        run_steps(step, state, [0.1 / number for number in range(1, 50)], batches)  # type: ignore[arg-type]
        ends.append({name: value.detach() for name, value in parameters.items()})
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-10, atol=1e-12)


def test_a_run_in_compiled_stretches_equals_one_step_by_step(tmp_path: Path) -> None:
    trained(tmp_path / "steps", *LINES, "stretches=false")
    record = trained(tmp_path / "stretches", *LINES, "stretches=true")
    assert "compiled function" in record["training"]["stretches"]
    expected, actual = (
        load_checkpoint(tmp_path / kind / "checkpoints" / "last.ckpt")["state_dict"] for kind in ("steps", "stretches")
    )
    tensors = [name for name, value in expected.items() if isinstance(value, torch.Tensor)]
    for name in tensors:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-3, atol=1e-4)
