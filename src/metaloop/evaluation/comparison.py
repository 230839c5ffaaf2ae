"""``metaloop compare A B``: compare two runs, and predict the episodes on which they disagree again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metaloop.config.data_paths import with_absolute_paths
from metaloop.config.targets.refusals import Untrusted
from metaloop.config.trust import check_complete, check_received
from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.records.reading import read_record
from metaloop.records.runs import read_run
from metaloop.records.schema import RECORD
from metaloop.report.comparison import RunComparison, compare_runs, difference_text
from metaloop.report.pages.comparison_page import write_comparison

_PRINTED = 12  # differing settings that are printed on the terminal


def compare(first: Path, second: Path, destination: Path) -> tuple[RunComparison, Path]:
    """Compare two runs, or later evaluations of runs, and write the page.

    Returns:
        The comparison and the path of the page.

    Raises:
        UserError: a record cannot be read, the two were not tested on the same episodes, or one is not trusted.
    """
    comparison = compare_runs(read_run(first), read_run(second))
    missing, predictors = "", []
    try:
        predictors = [_EpisodePredictor(directory) for directory in (first, second)]
    except Untrusted:
        raise
    except UserError as error:  # the page then shows the records alone
        missing = str(error)
    page = write_comparison(comparison, lambda which, numbers: predictors[which](numbers), missing, destination)
    return comparison, page


def lines(comparison: RunComparison) -> list[str]:
    """Summary of a comparison for the terminal."""
    better, equal, worse = comparison.ahead
    scores = [run.metric.interval(run.test.mean, run.test.half_width) for run in (comparison.first, comparison.second)]
    settings = [f"differs  {key}: {one} | {other}" for key, one, other in comparison.settings[:_PRINTED]]
    more = len(comparison.settings) - _PRINTED
    return [
        f"first  {comparison.names[0]}: {scores[0]}",
        f"second  {comparison.names[1]}: {scores[1]}",
        f"first − second  {difference_text(comparison)}, {comparison.metric.heading}",
        f"episodes  {len(comparison.episodes)}: first ahead in {better}, second in {worse}, equal in {equal}",
        *settings,
        *([f"differs  {more} more keys: see the report"] if more > 0 else []),
    ]


class _EpisodePredictor:
    """Best checkpoint of a run with the test episodes of the run or of a later evaluation.

    Args:
        directory: Directory of the run or of the evaluation.

    Raises:
        UserError: the checkpoint or the data are missing.
    """

    def __init__(self, directory: Path) -> None:
        record = read_record(directory)
        check_received(record.config, directory / RECORD)
        check_complete(record.config, directory / RECORD)
        run = FinishedRun.open(
            directory.resolve().parents[1] if directory.resolve().parent.name == "evaluations" else directory
        )
        own_episodes = not any(text.startswith("episode") for text in record.overrides)
        config = with_absolute_paths(record.config, run.identity.folder)
        self._test = run.test(config, own_episodes=own_episodes, split=record.test.split)

    def __call__(self, numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """Predict the episodes of these numbers, in the form that the report's pictures need."""
        from metaloop.training.samples import answers

        return list(answers(self._test.learner, self._test.episodes, numbers, self._test.device))
