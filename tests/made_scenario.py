"""A tiny made-up scenario of algorithm selection in ASlib's official layout."""

from pathlib import Path

import numpy as np
import yaml

from metaloop.data.scenarios.arff import write_arff

LEARNERS = ("1_tree", "2_line", "3_constant")
FEATURES = ("rows", "curved", "noise", "often_unknown")
COUNT = 18  # data sets


def tables(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Meta-features (18, 4) and accuracies (18, 3): the tree is best on curved data sets, the line on the others."""
    random = np.random.default_rng(seed)
    x = np.column_stack([random.uniform(50, 500, COUNT), np.linspace(0, 1, COUNT), random.random(COUNT), random.random(COUNT)])
    x[::2, 3] = np.nan
    hard = 0.1 * x[:, 2]
    y = np.column_stack([0.7 + 0.2 * (x[:, 1] > 0.6) - hard, 0.8 - 0.1 * (x[:, 1] > 0.6) - hard, 0.5 - hard])
    return x, y


def write_scenario(folder: Path, **changes: str) -> Path:
    """Write the scenario into a folder.

    Args:
        folder: it is made if it does not exist.
        changes: replacements of the file contents, by the file's name without its suffix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    x, y = tables()
    names = [f"d{number}" for number in range(COUNT)]
    description = {
        "scenario_id": "MADE",
        "performance_measures": ["predictive_accuracy"],
        "maximize": [True],
        "performance_type": ["solution_quality"],
        "metainfo_algorithms": {name: {"configuration": "", "deterministic": True} for name in LEARNERS},
    }
    runs = [(d, 1, a, float(y[i, j]), "ok") for i, d in enumerate(names) for j, a in enumerate(LEARNERS)]
    keys = [("instance_id", "STRING"), ("repetition", "NUMERIC")]
    contents = {
        "description": yaml.safe_dump(description),
        "algorithm_runs": write_arff(
            "RUNS", [*keys, ("algorithm", "STRING"), ("predictive_accuracy", "NUMERIC"), ("runstatus", "{ok, crash}")], runs
        ),
        "feature_values": write_arff(
            "FEATURES",
            [*keys, *((name, "NUMERIC") for name in FEATURES)],
            [(d, 1, *map(float, row)) for d, row in zip(names, x, strict=True)],
        ),
        "cv": write_arff("CV", [*keys, ("fold", "NUMERIC")], [(d, 1, 1 + i % 3) for i, d in enumerate(names)]),
    }
    for name, text in (contents | changes).items():
        suffix = "txt" if name == "description" else "arff"
        (folder / f"{name}.{suffix}").write_text(text)
    return folder
