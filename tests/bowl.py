"""A learner without a network, whose gradient is written out, with its tasks and weights in float64."""

import torch
from torch import Tensor

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.learners.learner import PureOuterStep
from metaloop.types import Examples, Params, Tasks


class Bowl(PureOuterStep):
    """The loss ``mean over tasks of sum sin(a w) + (w - y)^2`` of weights w, whose gradient is written out."""

    def phase(self, outer_step: int) -> str:
        return "always"

    def outer_gradient(self, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        gradients, losses = {}, torch.zeros(len(tasks), dtype=torch.float64)
        for name, value in meta.items():
            target = tasks.support.y.mean(1)[:, None].expand(-1, value.numel())
            flat = value.reshape(-1)
            losses = losses + (torch.sin(3 * flat) + (flat - target) ** 2).sum(1)
            gradients[name] = (3 * torch.cos(3 * flat) + 2 * (flat - target).mean(0)).view(value.shape)
        return gradients, {"loss": losses}


def batch(step: int) -> Tasks:
    generator = torch.Generator().manual_seed(step)
    y = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    examples = Examples(torch.zeros(4, 3, 1, dtype=torch.float64), y)
    return Tasks(examples, examples, torch.arange(4))


def start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = {"a": (3, 5), "b": (7,), "c": ()}
    return {n: torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for n, s in shapes.items()}
