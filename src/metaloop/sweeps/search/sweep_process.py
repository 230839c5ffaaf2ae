"""A neural process over settings, meta-learned from finished sweeps: what a few trials say about all other settings."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from metaloop.inner.execution.over_tasks import Vmap
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.readers.processes import Transformer
from metaloop.models.cells import Cells
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples, Tasks

_WIDTH, _LAYERS, _HEADS = 32, 2, 2
_RATE, _DECAY = 0.003, 0.01
_LEAST, _MOST = 3, 12  # trials of a task that are shown
_CLIP = 5.0  # largest size of a score in that unit
_FLOOR = 0.05  # lowest standard deviation by which scores are divided, in standard deviations of a sweep


class SweepProcess:
    """A transformer neural process (``algorithm=tnp``), whose tasks are finished sweeps.

    Support examples of a task are a few of its trials, queries all others. Scores are in standard deviations of the support
    set, around its mean, as they will be in a new search.

    Args:
        sweeps: features (trials, features) and scores (trials,) of each finished sweep.
        seed: of all random draws.
        steps: of training, with one task of each sweep.

    The learning rate falls linearly to zero.
    """

    def __init__(self, sweeps: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, steps: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reader = partial(Transformer, width=_WIDTH, layers=_LAYERS, heads=_HEADS)
            model = Cells((sweeps[0][0].shape[1],), None)
            self.learner = InContext(model, MeanSquaredError(), 1, reader, Vmap(), gaussian=True, floor=0.05)
            optimizer = torch.optim.AdamW(self.learner.parameters(), lr=_RATE, weight_decay=_DECAY)
            data = [(torch.from_numpy(x).float(), torch.from_numpy(y).float()) for x, y in sweeps]
            with torch.enable_grad():
                for step in range(steps):
                    optimizer.param_groups[0]["lr"] = _RATE * (1 - step / steps)
                    optimizer.zero_grad()
                    loss = self.learner.meta_loss(_tasks(data)).loss
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


def _tasks(data: Sequence[tuple[Tensor, Tensor]]) -> Tasks:
    """One task of each sweep: as many trials of each as support, and as many of the others as queries."""
    least = min(len(y) for _, y in data)
    shown = int(torch.randint(min(_LEAST, least - 1), min(_MOST, least - 1) + 1, ()))
    supports, queries = [], []
    for x, y in data:
        order = torch.randperm(len(y))
        support, query = order[:shown], order[shown:least]
        scale = y[support].std(unbiased=False).clamp(min=_FLOOR)
        values = ((y - y[support].mean()) / scale).clamp(-_CLIP, _CLIP)[:, None]
        supports.append((x[support], values[support]))
        queries.append((x[query], values[query]))
    parts = [Examples(torch.stack([x for x, _ in p]), torch.stack([y for _, y in p])) for p in (supports, queries)]
    return Tasks(parts[0], parts[1], torch.arange(len(data)))
