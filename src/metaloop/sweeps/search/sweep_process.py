"""A neural process over settings, meta-learned from finished sweeps: what a few trials say about all other settings."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.readers.processes import CrossAttention
from metaloop.models.cells import Cells
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples, Tasks

_WIDTH, _LAYERS, _HEADS = 32, 2, 2
_RATE, _DECAY = 0.003, 0.01
_LEAST, _MOST = 3, 12  # trials of a task that are shown
_FLOOR = 0.05  # lowest standard deviation by which scores are divided, in standard deviations of a sweep


class SweepProcess:
    """An attentive neural process (``algorithm=anp``), whose tasks are finished sweeps.

    Support examples of a task are a few of its trials, queries all others. Scores are in standard deviations of the support
    set, around its mean, as they will be in a new search.

    Args:
        sweeps: features (trials, features) and scores (trials,) of each finished sweep.
        seed: of all random draws.
        steps: of training, with one task of each sweep.
    """

    def __init__(self, sweeps: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, steps: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reader = partial(CrossAttention, width=_WIDTH, layers=_LAYERS, heads=_HEADS)
            model = Cells((sweeps[0][0].shape[1],), None)
            self.learner = InContext(model, MeanSquaredError(), 1, reader, Loop(), gaussian=True, floor=0.05)
            optimizer = torch.optim.AdamW(self.learner.parameters(), lr=_RATE, weight_decay=_DECAY)
            data = [(torch.from_numpy(x).float(), torch.from_numpy(y).float()) for x, y in sweeps]
            with torch.enable_grad():
                for step in range(steps):
                    optimizer.zero_grad()
                    x, y = data[step % len(data)]
                    loss = self.learner.meta_loss(_task(x, y)).loss
                    loss.backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
                    optimizer.step()

    def predict(self, x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict scores.

        Args:
            x: (trials, features) of finished trials, at least three.
            y: (trials,) their scores, higher is better.
            queries: (n, features).

        Returns:
            Means and standard deviations (n,) in the unit of ``y``.
        """
        mean, scale = float(y.mean()), max(float(y.std()), 1e-12)
        values = torch.from_numpy((y - mean) / scale).float()[None, :, None]
        support = Examples(torch.from_numpy(x).float()[None], values, number=torch.zeros(1, dtype=torch.int64))
        with torch.no_grad():
            answer: Tensor = self.learner.adapt(support)(torch.from_numpy(queries).float()[None])
        means, deviations = answer[0, :, 0].double().unbind(-1)
        return means.numpy() * scale + mean, deviations.numpy() * scale


def _task(x: Tensor, y: Tensor) -> Tasks:
    """A random division of a sweep's trials into support and queries."""
    shown = int(torch.randint(_LEAST, min(_MOST, len(y) - 1) + 1, ())) if len(y) > _LEAST else len(y) - 1
    order = torch.randperm(len(y))
    support, query = order[:shown], order[shown:]
    scale = y[support].std(unbiased=False).clamp(min=_FLOOR)
    values = ((y - y[support].mean()) / scale)[None, :, None]
    parts = [Examples(x[rows][None], values[:, rows]) for rows in (support, query)]
    return Tasks(parts[0], parts[1], torch.zeros(1, dtype=torch.int64))
