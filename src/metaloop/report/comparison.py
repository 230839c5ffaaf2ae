"""Comparison of two runs on the same episodes: scores, episodes in which they differ most, and differences of config."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metaloop.errors import UserError
from metaloop.metrics.paired import PairedDifference, paired_difference
from metaloop.problems.metric import Metric
from metaloop.records.runs import INCIDENTAL, Run
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.figures.theme import Theme, new_figure, titles
from metaloop.report.pages.views import flatten
from metaloop.report.tables.facts import differing

_SHOWN = 4  # episodes that are shown for each run, those in which it leads by the most


@dataclass(frozen=True)
class RunComparison:
    """A paired comparison of two runs.

    Attributes:
        first, second: the runs.
        names: a name for each, different from the other's.
        episodes: (n,) numbers of the episodes that both were tested on, ascending.
        scores: (2, n) scores of the first and of the second run on these episodes.
        difference: the first run's scores minus the second's.
        settings: (key, first value, second value) of each difference between configs, versions, commits and machines.
    """

    first: Run
    second: Run
    names: tuple[str, str]
    episodes: Array
    scores: Array
    difference: PairedDifference
    settings: Sequence[tuple[str, str, str]]

    @property
    def metric(self) -> Metric:
        """Metric of both runs."""
        return self.first.metric

    @property
    def ahead(self) -> tuple[int, int, int]:
        """Number of episodes in which the first run is better, both are equal, and the second is better."""
        gain = self._gain()
        better, worse = int((gain > 0).sum()), int((gain < 0).sum())
        return better, len(gain) - better - worse, worse

    def apart(self) -> tuple[list[int], list[int]]:
        """Episodes in which the first run leads by the most, and those in which the second does, largest lead first."""
        gain = self._gain()
        order = np.argsort(gain, kind="stable")
        most = [int(self.episodes[i]) for i in order[::-1][:_SHOWN] if gain[i] > 0]
        return most, [int(self.episodes[i]) for i in order[:_SHOWN] if gain[i] < 0]

    def _gain(self) -> Array:
        """(n,) how much better the first run is. A score that is not finite is below all others; two such scores are equal."""
        good = self.metric.sign * self.scores
        good = np.where(np.isfinite(good), good, -np.inf)
        gain = np.zeros(good.shape[1])
        np.subtract(good[0], good[1], out=gain, where=good[0] != good[1])
        return gain


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Compare two runs over the episodes that both were tested on.

    Raises:
        UserError: they have no episode in common; names what differs and the command that tests one like the other.
    """
    if first.stream_key != second.stream_key:
        raise UserError(_other_episodes(first, second))
    common = np.array(sorted(first.episodes.keys() & second.episodes.keys()))
    if not len(common):
        raise UserError(f"{first.directory} and {second.directory} have no episode number in common")
    both = [{int(i): run.episodes[int(i)] for i in common} for run in (first, second)]
    difference = paired_difference(both[0], both[1], first.test.level)
    scores = np.array([list(each.values()) for each in both])
    return RunComparison(first, second, _names(first, second), common, scores, difference, _settings(first, second))


def _other_episodes(first: Run, second: Run) -> str:
    settings = [_episode_settings(run) for run in (first, second)]
    differences = [f"{key} {one} and {settings[1][key]}" for key, one in settings[0].items() if one != settings[1][key]]
    differences = differences or [key for key in differing([first, second]) if key.startswith("dataset")]
    return (
        f"{first.directory} and {second.directory} were tested on different episodes ({'; '.join(differences)}), so their "
        f"scores cannot be paired; test one like the other with metaloop evaluate run={second.directory} [overrides], and "
        "compare with the evaluation that it writes"
    )


def _episode_settings(run: Run) -> dict[str, str]:
    """Settings that episodes depend on, by their names in messages."""
    test = run.test
    return {
        "data set": str(run.record.choices.get("dataset")),
        "problem": test.problem,
        "metric": test.metric.name,
        "split": test.split,
        "ways": formats.span(test.ways),
        "shots": formats.span(test.shots),
        "queries": str(test.queries),
        "seed": str(test.seed),
        "level": str(test.level),
    }


def _names(first: Run, second: Run) -> tuple[str, str]:
    names = first.name, second.name
    if names[0] != names[1]:
        return names
    folders = first.directory.resolve().name, second.directory.resolve().name
    return folders if folders[0] != folders[1] else (str(first.directory), str(second.directory))


def _settings(first: Run, second: Run) -> list[tuple[str, str, str]]:
    """Differences: keys of the config, then commit, versions and machine."""
    parts = []
    for run in (first, second):
        record = run.record
        origin = {"commit": record.git and record.git.commit, **record.versions, **asdict(record.hardware)}
        origin |= {f"code of {code.package}": code.text for code in record.code}
        parts.append({**dict(flatten(record.config)), **{f"({key})": str(value) for key, value in origin.items()}})
    keys = [key for key in dict.fromkeys([*parts[0], *parts[1]]) if key.split(".")[0] not in INCIDENTAL - {"seed"}]
    values = [(key, parts[0].get(key, formats.NONE), parts[1].get(key, formats.NONE)) for key in keys]
    return [(key, one, other) for key, one, other in values if one != other]


def difference_text(comparison: RunComparison) -> str:
    """Format the difference with its interval and p-value, such as ``+1.25 ± 0.40, p < 0.0001``."""
    text = formats.difference(comparison.difference.interval, comparison.metric)
    p_value = formats.p_value(comparison.difference.p_value)
    return f"{text}, p {p_value}" if p_value.startswith("<") else f"{text}, p = {p_value}"


def scatter(comparison: RunComparison, theme: Theme) -> Figure | None:
    """Draw the scores of both runs in every episode, and beside them a histogram of their differences.

    The area of a point is proportional to the number of episodes at it. Episodes in which a run diverged are left out; None
    if no others remain.
    """
    scores = comparison.scores[:, np.isfinite(comparison.scores).all(axis=0)]
    if not scores.size:
        return None
    figure, (ax, beside) = new_figure(theme, 2, (8.2, 3.7))
    scale = comparison.metric.scale
    points, counts = np.unique(scale * scores, axis=1, return_counts=True)
    ax.scatter(points[0], points[1], s=9 * counts, color=theme.palette[0], alpha=0.45, linewidths=0)
    low, high = float(scores.min()) * scale, float(scores.max()) * scale
    ax.plot([low, high], [low, high], "--", color=theme.muted, linewidth=1)
    unit = comparison.metric.heading
    titles(ax, theme, f"{unit}: {_cut(comparison.names[0])}", f"{unit}: {_cut(comparison.names[1])}")
    gain = scale * (scores[0] - scores[1])
    beside.hist(gain, bins=min(41, max(11, len(np.unique(gain)))), color=theme.palette[0], alpha=0.75)
    beside.axvline(0, color=theme.muted, linestyle="--", linewidth=1)
    beside.axvline(float(gain.mean()), color=theme.palette[1], linewidth=1.6)
    beside.yaxis.set_major_locator(MaxNLocator(integer=True))
    unit = comparison.metric.difference_unit
    titles(beside, theme, f"first − second, in an episode{f' ({unit})' if unit else ''}", "episodes")
    return figure


def _cut(name: str) -> str:
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")
