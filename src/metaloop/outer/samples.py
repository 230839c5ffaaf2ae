"""One test episode (or a few functions) with the learner's answers, saved for the report's pictures."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metaloop.data.episodes import Episodes
from metaloop.data.sinusoid import FunctionDistribution
from metaloop.learners.learner import Learner
from metaloop.outer.checkpoints import write_atomically

_FUNCTIONS = 4
_POINTS = 200


def save_samples(path: Path, learner: Learner, episodes: Episodes, device: torch.device) -> bool:
    """Write ``samples.npz``; False for inputs that make no picture."""
    distribution = episodes.distribution
    if isinstance(distribution, FunctionDistribution):
        arrays = _functions(learner, episodes, distribution, device)
    elif len(distribution.input_shape) == 3:
        arrays = _sheet(learner, episodes, device)
    else:
        return False

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **{name: np.asarray(value) for name, value in arrays.items()})

    write_atomically(path, write)
    return True


def _sheet(learner: Learner, episodes: Episodes, device: torch.device) -> dict[str, Tensor]:
    tasks = episodes.tasks(torch.zeros(1, dtype=torch.int64, device=device))
    answers = learner.adapt(tasks.support)(tasks.query.x, tasks.query.mask)
    shown = {
        "support_x": tasks.support.x,
        "support_y": tasks.support.y,
        "query_x": tasks.query.x,
        "query_y": tasks.query.y,
    }
    parts = {name: value[0] for name, value in shown.items() if isinstance(value, Tensor)}
    parts |= {"probabilities": answers[0].float().softmax(-1), "index": tasks.index[0]}
    for name, mask in (("support", tasks.support.mask), ("query", tasks.query.mask)):
        if mask is not None:
            own = {key: value[mask[0]] for key, value in parts.items() if key.startswith(name)}
            parts |= own | ({"probabilities": parts["probabilities"][mask[0]]} if name == "query" else {})
    return {name: value.cpu() for name, value in parts.items()}


def _functions(
    learner: Learner, episodes: Episodes, functions: FunctionDistribution, device: torch.device
) -> dict[str, Tensor]:
    numbers = torch.arange(_FUNCTIONS, device=device)
    tasks = episodes.tasks(numbers)
    grid = torch.linspace(*functions.domain, _POINTS, device=device)
    curve = learner.adapt(tasks.support).curve(grid[None, :, None].expand(_FUNCTIONS, -1, 1))
    assert isinstance(tasks.support.x, Tensor)
    arrays = {
        "grid": grid,
        "true": functions.true_function(episodes.stream, numbers, grid),
        "support_x": tasks.support.x[..., 0],
        "support_y": tasks.support.y[..., 0],
        "before": curve[0, ..., 0],
        "after": curve[-1, ..., 0],
    }
    return {name: value.cpu() for name, value in arrays.items()}
