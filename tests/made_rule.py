"""A file of made-up weights with the names and shapes of Disco103's."""

from pathlib import Path

import numpy as np

from metaloop.learners.control.update_rules.disco.weights import SHAPES


def write_rule(folder: Path) -> str:
    """Write the file into a folder and return its path."""
    random = np.random.default_rng(0)
    weights = {}
    for name, shape in SHAPES.items():
        scale = shape[-2] ** -0.5 if len(shape) > 1 else 0.1
        weights[name] = random.normal(size=shape, scale=scale).astype(np.float32)
    np.savez(folder / "disco_103.npz", **weights)
    return str(folder / "disco_103.npz")
