"""``metaloop compare A B``: the episodes on which two runs disagree, answered anew from their checkpoints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.records.runs import read_run
from metaloop.records.schema import RECORD
from metaloop.records.typed_json import read_object
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
    scores = [run.metric.interval(run.test.mean, run.test.half_width) for run in (found.first, found.second)]
    settings = [f"differs  {key}: {one} | {other}" for key, one, other in found.settings[:_SAID]]
    more = len(found.settings) - _SAID
    return [
        f"first  {found.names[0]}: {scores[0]}",
        f"second  {found.names[1]}: {scores[1]}",
        f"first − second  {difference_text(found)}, {found.metric.heading}",
        f"episodes  {len(found.episodes)}: first ahead in {better}, second in {worse}, equal in {equal}",
        *settings,
        *([f"differs  {more} more keys: see the report"] if more > 0 else []),
    ]


class _Answering:
    """A run's best checkpoint and the test episodes of the run, or of a later evaluation of it.

    Args:
        directory: of the run, or of the evaluation.

    Raises:
        UserError: the checkpoint or the data are missing.
    """

    def __init__(self, directory: Path) -> None:
        record = read_object(directory / RECORD, "record")
        run = FinishedRun.open(directory.parents[1] if directory.parent.name == "evaluations" else directory)
        own_episodes = not any(text.startswith("episode") for text in record["overrides"])
        self._test = run.test(record["config"], own_episodes=own_episodes)

    def __call__(self, numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Its answers in the episodes of these numbers."""
        from metaloop.training.samples import answers

        return list(answers(self._test.learner, self._test.episodes, numbers, self._test.device))
