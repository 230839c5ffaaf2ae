"""Tables of anomalies in ADBench's layout, made up."""

from pathlib import Path

import numpy as np


def write_tables(folder: Path, names: tuple[str, ...] = ("first", "second", "third"), anomalies: int = 12) -> Path:
    """Write small tables to ``folder/adbench_classical``; anomalies lie apart in two columns. Return ``folder``."""
    random = np.random.default_rng(0)
    place = folder / "adbench_classical"
    place.mkdir(parents=True)
    for number, name in enumerate(names):
        x = random.normal(size=(120 + anomalies, 4 + number))
        y = np.zeros(len(x), dtype=np.int64)
        y[:anomalies] = 1
        x[:anomalies, :2] += 3.0
        np.savez(place / f"{number}_{name}.npz", X=x, y=y)
    return folder
