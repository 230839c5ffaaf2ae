"""``metaloop inspect DIR``: what adaptation does in a finished run."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "inspection"


def inspect_run(directory: Path, count: int, steps: int | None) -> Path:
    """Look at how the best checkpoint of a run adapts to the first ``count`` meta-test episodes.

    Writes ``inspection.json``, ``inspection.npz`` (the embedding map, where there is one), pictures and ``index.html``.

    Args:
        directory: of the run.
        count: episodes, the same as those that the meta-test begins with.
        steps: inner steps; None for those of the run's meta-test.

    Returns:
        The folder that was written.

    Raises:
        UserError: it is no run, it has no checkpoint, or a number is out of its range.
    """
    from metaloop.errors import UserError
    from metaloop.records.directory import description

    told = description(directory)  # first: a folder that is no run is answered before torch is imported
    for option, value, least in (("--episodes", count, 2), ("--steps", steps, 1)):
        if value is not None and value < least:
            raise UserError(f"{option} {value}: at least {least}")
    from metaloop.evaluation.embedding_map import check_available

    check_available()
    found, arrays = _measured(directory, told, count, steps)
    about = {"run": directory.resolve().name, "choices": told["choices"], "seed": told["config"]["seed"]}
    from metaloop.report.pages.inspection_page import write_inspection_page
    from metaloop.system.files import write_atomically

    target = directory / FOLDER
    write_atomically(target / "inspection.json", json.dumps(about | found, indent=1) + "\n")
    if arrays is not None:
        write_atomically(target / "inspection.npz", _npz(arrays))
    write_inspection_page(target)
    return target


def _measured(directory: Path, told: Mapping[str, Any], count: int, steps: int | None) -> tuple[dict[str, Any], Any]:
    import torch

    from metaloop.evaluation.measures import inspect
    from metaloop.evaluation.rebuild import rebuild
    from metaloop.records.directory import BEST
    from metaloop.system.tf32 import allow_tf32
    from metaloop.training.datamodule import EpisodeDataModule
    from metaloop.training.meta_test import restored
    from metaloop.training.silence import quieten

    quieten()
    config = told["config"]
    allow_tf32(config.get("tf32", False))  # older runs have no such key
    run = rebuild(config, config, own_episodes=True)
    # What was trained on a GPU may be looked at without one.
    on_gpu = config["trainer"].get("accelerator") in ("gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    problem = run.dataset.split("test").problem
    module = restored(run.learner, problem, told["fingerprint"], directory / "checkpoints" / BEST).to(device).eval()
    episodes = EpisodeDataModule(run.dataset, run.plan).episodes("test", device)
    count = min(count, episodes.distribution.episodes or count)
    return inspect(module.learner, episodes, count, run.plan.eval_batch, steps, device)


def _npz(arrays: Mapping[str, Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def show(target: Path) -> None:
    """Print the conclusion and where the page is."""
    import textwrap

    from metaloop.report.pages.inspection_page import conclusion, lines, read_inspection
    from metaloop.report.summary import page_lines, print_lines

    print()
    print(textwrap.fill(conclusion(read_inspection(target)), 100))
    print_lines([*lines(target), *page_lines(target / "index.html")])
