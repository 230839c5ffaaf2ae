"""The timed settings, with weights and tasks that are generated from a seed and the same for every contestant."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.models import Conv4, Encoder, Perceptron

Batch = dict[str, Tensor]  # support_x, support_y, query_x, query_y, each (tasks, examples, ...)


@dataclass(frozen=True)
class Case:
    """One timed setting.

    Attributes:
        title: name in tables.
        model: "conv4", "perceptron" or "encoder".
        input_shape: shape of one example.
        width: filters, hidden units, or the encoder's width.
        ways, shots, queries: size of an episode; 0 ways means a regression.
        steps, lr: steps and learning rate of the inner loop.
        meta_batch: tasks per outer step.
        downsample: "pool" or "stride", for Conv-4.
    """

    title: str
    model: str
    input_shape: tuple[int, ...]
    width: int
    ways: int
    shots: int
    queries: int
    steps: int
    lr: float
    meta_batch: int
    downsample: str = "pool"

    @property
    def outputs(self) -> int:
        """Number of the head's outputs."""
        return self.ways or 1


CASES = {
    "a": Case("Conv-4-64, 28x28, 5-way 1-shot, 15 queries", "conv4", (1, 28, 28), 64, 5, 1, 15, 1, 0.4, 32),
    "b": Case("Conv-4-64, 28x28, 20-way 1-shot, 15 queries", "conv4", (1, 28, 28), 64, 20, 1, 15, 1, 0.4, 32),
    "c": Case("MLP 40-40, sinusoid, 10 shots, 10 queries", "perceptron", (1,), 40, 0, 10, 10, 1, 0.01, 25),
    "d": Case("Conv-4-32, 84x84x3, 5-way 1-shot, 15 queries, 5 steps", "conv4", (3, 84, 84), 32, 5, 1, 15, 5, 0.01, 4),
    "e": Case("2-layer transformer encoder, 5-way 5-shot, 5 queries", "encoder", (16, 49), 64, 5, 5, 5, 1, 0.01, 8),
    "f": Case("Conv-4-64 stride 2, 28x28, 5-way 1-shot, 1 query", "conv4", (1, 28, 28), 64, 5, 1, 1, 1, 0.4, 32, "stride"),
}


def quick(case: Case) -> Case:
    """Reduce a setting to small sizes, for trials and tests; its timings mean nothing."""
    shape = (3, 28, 28) if case.input_shape == (3, 84, 84) else case.input_shape
    return replace(case, input_shape=shape, width=8, queries=min(case.queries, 2), meta_batch=2, steps=min(case.steps, 2))


def plain_model(case: Case) -> nn.Module:
    """Build the network in plain torch."""
    if case.model == "conv4":
        return Conv4(case.input_shape, case.outputs, case.width, case.downsample)
    if case.model == "encoder":
        return Encoder(case.input_shape, case.outputs, case.width)
    return Perceptron(case.input_shape, case.outputs, case.width)


def make_tasks(case: Case, tasks: int, seed: int) -> Batch:
    """Generate tasks: class means with noise in [0, 1], or sinusoids (Finn et al. 2017, section 5.1)."""
    random = torch.Generator().manual_seed(seed)
    if not case.ways:
        x = torch.rand(tasks, case.shots + case.queries, 1, generator=random) * 10 - 5
        amplitude, phase = torch.rand(2, tasks, 1, 1, generator=random)
        y = (0.1 + 4.9 * amplitude) * torch.sin(x - torch.pi * phase)
        parts = {"support": slice(0, case.shots), "query": slice(case.shots, None)}
        return {f"{name}_{axis}": values[:, part] for name, part in parts.items() for axis, values in (("x", x), ("y", y))}
    means = torch.rand(tasks, case.ways, 1, *case.input_shape, generator=random)

    def examples(count: int) -> Tensor:
        noise = torch.rand(tasks, case.ways, count, *case.input_shape, generator=random)
        return (0.5 * means + 0.5 * noise).flatten(1, 2)

    def labels(count: int) -> Tensor:
        return torch.arange(case.ways).repeat_interleave(count).expand(tasks, -1).clone()

    support, query = examples(case.shots), examples(case.queries)
    return {"support_x": support, "support_y": labels(case.shots), "query_x": query, "query_y": labels(case.queries)}


def save(case: Case, path: Path, tasks: int, seed: int) -> None:
    """Write the setting, the starting weights and the tasks, which every contestant reads."""
    torch.manual_seed(seed)
    weights = plain_model(case).state_dict()
    torch.save({"case": case.__dict__, "weights": weights, "tasks": make_tasks(case, tasks, seed)}, path)


def load(path: Path) -> tuple[Case, dict[str, Tensor], Batch]:
    """Read a file that `save` wrote."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return Case(**content["case"]), content["weights"], content["tasks"]


def convert(tasks: Batch, dtype: torch.dtype) -> Batch:
    """Convert the floating-point tensors of tasks to ``dtype``."""
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tasks.items()}
