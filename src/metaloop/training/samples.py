"""A test episode, or a few functions, with the learner's predictions, saved for the report's pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from metaloop.data.episodes import Episodes
from metaloop.learners.learner import Learner
from metaloop.system.files import replace_atomically


def save_samples(path: Path, learner: Learner, episodes: Episodes, device: torch.device) -> bool:
    """Write ``samples.npz`` of the first episodes; return False if the problem has no picture of them."""
    pictures = answers(learner, episodes, range(episodes.distribution.problem.sampled), device)
    if not pictures:
        return False

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **pictures[0])  # type: ignore[arg-type]

    replace_atomically(path, write)
    return True


def answers(learner: Learner, episodes: Episodes, numbers: Sequence[int], device: torch.device) -> list[dict[str, np.ndarray]]:
    """Predict episodes for the report's pictures.

    Returns:
        One mapping of arrays for each picture; empty if the problem has no picture of these episodes.
    """
    distribution, pictures = episodes.distribution, []
    for part in torch.tensor(list(numbers), device=device).split(distribution.problem.sampled):  # type: ignore[no-untyped-call]
        tasks, line = episodes.tasks(part), distribution.line(episodes.stream, part, episodes.spec)
        arrays = distribution.problem.samples(learner.adapt(tasks.support), tasks, line)
        if arrays is None:
            return []
        picture = {name: value.detach().cpu().numpy() for name, value in arrays.items()}
        names = distribution.task_classes(tasks)
        pictures.append(picture if names is None else picture | {"names": np.array(names, str)})
    return pictures
