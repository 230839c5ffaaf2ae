"""Runs of the learner without a network, for tests of packs."""

import numpy as np
import torch

from bowl import Bowl, batch, start
from metaloop.training.packs.messages import Stretch, arrays
from metaloop.training.packs.program import Program, program_of
from metaloop.training.stretches.captured import Clipping, StepFunction, leaves_of, run_steps
from metaloop.training.stretches.capturing import arguments, optimizer_state
from metaloop.training.stretches.optimizer_state import OptimizerState

STEPS = 30


class BowlRun:
    """A run that has taken its first step, with rates and decay of its own."""

    def __init__(self, rate: float, decay: float, learner: Bowl | None = None) -> None:
        self.rate, self.parameters = rate, start()
        learner = learner or Bowl()
        optimizer = torch.optim.AdamW(list(self.parameters.values()), lr=rate, weight_decay=decay, eps=decay * 1e-3)
        for name, gradient in learner.outer_gradient(self.parameters, batch(0), None)[0].items():  # type: ignore[arg-type]
            self.parameters[name].grad = gradient.detach().clone()
        optimizer.step()
        self.state: OptimizerState = optimizer_state(optimizer, self.parameters)
        clipping, tree = Clipping(0.5 + decay, by_norm=True), leaves_of(batch(0))[1]
        self.function = StepFunction(learner, self.state.layout, self.state.update, clipping, tree)

    def example(self) -> list[torch.Tensor]:
        return arguments(self.state, leaves_of(batch(0))[0])

    def program(self, *, numbers: bool = True) -> Program:
        return program_of(self.function, self.example(), numbers=numbers)

    def stretch(self, first: int) -> Stretch:
        vector, buffers = self.state.read()
        leaves = [leaves_of(batch(number))[0] for number in range(first, first + STEPS)]
        stacked = [torch.stack(each) for each in zip(*leaves, strict=True)]
        return Stretch(vector.numpy(), arrays(buffers), self.state.table([self.rate] * STEPS).numpy(), arrays(stacked))

    def end_by_itself(self, first: int) -> tuple[np.ndarray, list[float]]:
        batches = [(leaves_of(batch(number))[0], batch(number).index) for number in range(first, first + STEPS)]
        losses = run_steps(self.function, self.state, [self.rate] * STEPS, batches)  # type: ignore[arg-type]
        return self.state.read()[0].numpy(), [float(loss) for loss, _ in losses]
