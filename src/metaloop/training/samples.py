"""One test episode (or a few functions) with the learner's answers, saved for the report's pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metaloop.data.episodes import Episodes
from metaloop.data.functions.sinusoid import FunctionDistribution
from metaloop.learners.learner import Learner
from metaloop.metrics.regression import band
from metaloop.system.files import replace_atomically

_FUNCTIONS = 4
_POINTS = 200


def save_samples(path: Path, learner: Learner, episodes: Episodes, device: torch.device) -> bool:
    """Write ``samples.npz`` of the first episode or functions; False for inputs that make no picture."""
    functions = isinstance(episodes.distribution, FunctionDistribution)
    found = answers(learner, episodes, range(_FUNCTIONS if functions else 1), device)
    if not found:
        return False
    arrays = found[0]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    replace_atomically(path, write)
    return True


def answers(learner: Learner, episodes: Episodes, numbers: Sequence[int], device: torch.device) -> list[dict[str, np.ndarray]]:
    """Episodes with a learner's answers, as the report's pictures want them.

    Returns:
        For images one mapping an episode, for functions one of all of them, nothing for inputs that make no picture.
    """
    distribution = episodes.distribution
    wanted = torch.tensor(list(numbers), device=device)
    if isinstance(distribution, FunctionDistribution):
        found = [_functions(learner, episodes, distribution, wanted)]
    elif len(distribution.input_shape) == 3:
        found = [_sheet(learner, episodes, number) for number in wanted.split(1)]
    else:
        found = []
    return [{name: np.asarray(value) for name, value in each.items()} for each in found]


def _sheet(learner: Learner, episodes: Episodes, number: Tensor) -> dict[str, Tensor]:
    tasks = episodes.tasks(number)
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


def _functions(learner: Learner, episodes: Episodes, functions: FunctionDistribution, numbers: Tensor) -> dict[str, Tensor]:
    tasks = episodes.tasks(numbers)
    grid = torch.linspace(*functions.domain, _POINTS, device=numbers.device)
    curve = learner.adapt(tasks.support).curve(grid[None, :, None].expand(len(numbers), -1, 1))
    assert isinstance(tasks.support.x, Tensor)
    real = torch.ones_like(tasks.support.y[..., 0], dtype=torch.bool) if tasks.support.mask is None else tasks.support.mask
    arrays = {
        "index": numbers,
        "grid": grid,
        "true": functions.true_function(episodes.stream, numbers, grid, episodes.spec),
        "support_x": tasks.support.x[..., 0].masked_fill(~real, torch.nan),  # which is not drawn
        "support_y": tasks.support.y[..., 0].masked_fill(~real, torch.nan),
    }
    if curve.ndim == 5:  # (points, tasks, grid, 1, mean and standard deviation)
        low, high = band(curve[-1, ..., 0, :])
        arrays |= {"mean": curve[-1, ..., 0, 0], "low": low, "high": high}
    else:
        arrays |= {"before": curve[0, ..., 0], "after": curve[-1, ..., 0]}
    return {name: value.cpu() for name, value in arrays.items()}
