"""``metaloop compare A B``: the episodes on which two runs disagree, answered anew from their checkpoints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.records.runs import read_run
from metaloop.report import formats
from metaloop.report.comparison import Comparison, compare_runs, difference_text
from metaloop.report.pages.comparison_page import write_comparison

_SAID = 12  # settings that are said on the terminal


def compare(first: Path, second: Path, destination: Path) -> tuple[Comparison, Path]:
    """Compare two runs, or later evaluations of runs, and write the page.

    Returns:
        The comparison and the page.

    Raises:
        UserError: one cannot be read, or they were not tested on the same episodes.
    """
    found = compare_runs(read_run(first), read_run(second))
    missing, learners = "", []
    try:
        learners = [_Answering(directory) for directory in (first, second)]
    except UserError as error:  # the records alone say the rest
        missing = str(error)
    return found, write_comparison(found, lambda which, numbers: learners[which](numbers), missing, destination)


def lines(found: Comparison) -> list[str]:
    """What is said of it on the terminal."""
    better, equal, worse = found.ahead
    scores = [formats.score(run.test["mean"], run.test["half_width"], run.metric) for run in (found.first, found.second)]
    settings = [f"differs  {key}: {one} | {other}" for key, one, other in found.settings[:_SAID]]
    more = len(found.settings) - _SAID
    return [
        f"first  {found.names[0]}: {scores[0]}",
        f"second  {found.names[1]}: {scores[1]}",
        f"first − second  {difference_text(found)}, {formats.metric_title(found.metric)}",
        f"episodes  {len(found.episodes)}: first ahead in {better}, second in {worse}, equal in {equal}",
        *settings,
        *([f"differs  {more} more keys: see the report"] if more > 0 else []),
    ]


class _Answering:
    """A run's best checkpoint and its test episodes.

    Raises:
        UserError: the checkpoint or the data are missing.
    """

    def __init__(self, directory: Path) -> None:
        import torch

        from metaloop.evaluation.rebuild import rebuild
        from metaloop.records.directory import BEST, description
        from metaloop.training.datamodule import EpisodeDataModule
        from metaloop.training.meta_test import restored
        from metaloop.training.silence import quieten

        quieten()
        record = json.loads((directory / "record.json").read_text())
        config = record["config"]
        run = directory.parents[1] if directory.parent.name == "evaluations" else directory
        told = description(run)
        own = not any(text.startswith("episode") for text in record["overrides"])
        built = rebuild(told["config"], config, own_episodes=own)
        problem = built.dataset.split("test").problem
        self.device = torch.device("cpu")
        module = restored(built.learner, problem, told["fingerprint"], run / "checkpoints" / BEST).to(self.device).eval()
        self.learner = module.learner
        self.episodes = EpisodeDataModule(built.dataset, built.plan).episodes("test", self.device)

    def __call__(self, numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
        from metaloop.training.samples import answers

        found: Any = answers(self.learner, self.episodes, numbers, self.device)
        return list(found)
