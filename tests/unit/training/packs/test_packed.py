"""Steps that are computed together equal those of each run by itself."""

from typing import Any

import numpy as np
import pytest
import torch

from bowl import Bowl
from bowl_runs import BowlRun
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.training.packs import packed
from metaloop.training.packs.packed import PackedStep
from metaloop.training.packs.program import NotPackedError
from metaloop.types import Params, Tasks


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute together without a compiler."""
    monkeypatch.setattr(packed, "compiled", lambda function, example: function)


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("seats", [3, 5])
def test_runs_of_other_rates_and_decays_together_equal_each_by_itself(seats: int) -> None:
    runs = [BowlRun(0.05, 0.1), BowlRun(0.2, 0.01), BowlRun(0.01, 0.5)]
    programs = [run.program() for run in runs]
    assert len({program.key for program in programs}) == 1
    example = [*runs[0].example(), *map(torch.from_numpy, programs[0].constants)]
    step = PackedStep(programs[0], example, seats)
    assert step.agrees()
    stretches = [run.stretch(10 * number) for number, run in enumerate(runs)]
    ends = step.take(stretches, [program.constants for program in programs])
    assert len(ends) == 3
    for number, (run, end) in enumerate(zip(runs, ends, strict=True)):
        vector, losses = run.end_by_itself(10 * number)
        np.testing.assert_allclose(end.vector, vector, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(end.losses, losses, rtol=1e-11)


def test_programs_differ_where_more_than_numbers_does() -> None:
    assert BowlRun(0.1, 0.1).program().key != BowlRun(0.1, 0.0).program().key  # no decay is no operation
    fixed = [BowlRun(0.1, decay).program(numbers=False) for decay in (0.1, 0.2)]
    assert fixed[0].key != fixed[1].key
    assert not fixed[0].constants


class _Noisy(Bowl):
    """Draws random numbers in each step."""

    def outer_gradient(self, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        gradients, outputs = super().outer_gradient(meta, tasks, over_tasks)
        return {name: value * torch.rand_like(value) for name, value in gradients.items()}, outputs


def test_a_step_that_draws_random_numbers_is_not_packed() -> None:
    with pytest.raises(NotPackedError, match="random numbers"):
        BowlRun(0.1, 0.1, _Noisy()).program()


@pytest.mark.slow
def test_compiled_steps_together_equal_each_by_itself() -> None:
    test_runs_of_other_rates_and_decays_together_equal_each_by_itself(4)


@pytest.mark.usefixtures("_plain")
def test_a_wrong_step_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed(function: Any, example: Any) -> Any:
        return lambda *arguments: [value.roll(1, 0) for value in function(*arguments)]

    monkeypatch.setattr(packed, "compiled", mixed)
    run = BowlRun(0.1, 0.1)
    program = run.program()
    assert not PackedStep(program, [*run.example(), *map(torch.from_numpy, program.constants)], 3).agrees()
