"""A made-up sweep whose every cell is known: additive effects, one interaction, the same episodes everywhere."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from made_runs import MakeRun

WORTH = {"maml": 0.0, "anil": -0.01, "boil": 0.0005}
STEPS = {1: 0.0, 5: 0.02}
TOGETHER = 0.006  # more that anil gains from 5 steps
SEED = {0: -0.002, 1: 0.0, 2: 0.002}
MEAN = 0.8
DATA = ("glyphs", "omniglot")


def cell(algorithm: str, steps: int, dataset: str, seed: int) -> float:
    """The mean score of a run."""
    together = TOGETHER if (algorithm, steps) == ("anil", 5) else 0.0
    return MEAN + WORTH[algorithm] + STEPS[steps] + together + SEED[seed] + (0.05 if dataset == "omniglot" else 0.0)


def make_sweep(make_run: MakeRun, folder: str = "sweep", data: tuple[str, ...] = DATA, episodes: int = 80) -> Path:
    """Three algorithms, two numbers of steps, three seeds, two data sets; a run's own noise has the mean zero."""
    for algorithm, steps, dataset, seed in itertools.product(WORTH, STEPS, data, SEED):
        name = f"{folder}/{algorithm}{steps}{dataset}{seed}"
        scores = exact_scores(cell(algorithm, steps, dataset, seed), [*WORTH].index(algorithm), steps, seed, episodes)
        directory = make_run(name, **one_run(algorithm, steps, dataset, seed), scores=scores, samples=False)
    return directory.parent


def one_run(algorithm: str, steps: int, dataset: str, seed: int) -> dict[str, Any]:
    """What the factory is told of a run."""
    overrides = [f"algorithm={algorithm}", f"algorithm.steps={steps}", f"dataset={dataset}", f"seed={seed}"]
    choices: Mapping[str, str] = {"algorithm": algorithm, "model": "conv4", "dataset": dataset}
    config = {"seed": seed, "algorithm": {"steps": steps}, "dataset": {"name": dataset}}
    told = {"name": f"{algorithm}_{dataset}", "seed": seed, "overrides": overrides, "choices": choices, "config": config}
    return {**told, "algorithm": algorithm}


def exact_scores(mean: float, algorithm: int, steps: int, seed: int, episodes: int) -> np.ndarray:
    """Scores whose mean is ``mean``, of episodes as hard for every run."""
    hard = np.random.default_rng(7).normal(0, 0.05, episodes)
    own = np.random.default_rng([algorithm, steps, seed]).normal(0, 0.01, episodes)
    return mean + (hard - hard.mean()) + (own - own.mean())
