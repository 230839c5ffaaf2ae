"""Two runs on the same episodes: what differs in their scores, where they disagree, and what differs in their configs."""

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

_SHOWN = 4  # of the episodes where one run is ahead most, each way


@dataclass(frozen=True)
class Comparison:
    """A paired comparison.

    Attributes:
        first, second: the runs.
        names: what they are called: their names, and what tells them apart.
        episodes: (n,) numbers of the episodes that both met, ascending.
        scores: (2, n) of the first and of the second on them.
        difference: of the first minus the second.
        settings: key, the first's value and the second's, of all that differs in their configs.
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
        """Of both runs."""
        return self.first.metric

    @property
    def ahead(self) -> tuple[int, int, int]:
        """In how many episodes the first is better, in how many they are equal, in how many the second is better."""
        gain = self._gain()
        better, worse = int((gain > 0).sum()), int((gain < 0).sum())
        return better, len(gain) - better - worse, worse

    def apart(self) -> tuple[list[int], list[int]]:
        """The episodes in which the first, and those in which the second, is ahead by the most; the furthest first."""
        gain = self._gain()
        order = np.argsort(gain, kind="stable")
        most = [int(self.episodes[i]) for i in order[::-1][:_SHOWN] if gain[i] > 0]
        return most, [int(self.episodes[i]) for i in order[:_SHOWN] if gain[i] < 0]

    def _gain(self) -> Array:
        """(n,) by how much the first is better; a score that is not finite is worse than any, and as bad as another such."""
        good = self.metric.sign * self.scores
        good = np.where(np.isfinite(good), good, -np.inf)
        gain = np.zeros(good.shape[1])
        np.subtract(good[0], good[1], out=gain, where=good[0] != good[1])
        return gain


def compare_runs(first: Run, second: Run) -> Comparison:
    """Compare two runs over the episodes that both were tested on.

    Raises:
        UserError: they met no episode in common; says what differs, and how to test one as the other was.
    """
    if first.stream_key != second.stream_key:
        raise UserError(_other_episodes(first, second))
    common = np.array(sorted(first.episodes.keys() & second.episodes.keys()))
    if not len(common):
        raise UserError(f"{first.directory} and {second.directory} have no episode number in common")
    both = [{int(i): run.episodes[int(i)] for i in common} for run in (first, second)]
    difference = paired_difference(both[0], both[1], first.test.level)
    scores = np.array([list(each.values()) for each in both])
    return Comparison(first, second, _names(first, second), common, scores, difference, _settings(first, second))


def _other_episodes(first: Run, second: Run) -> str:
    settings = [_episode_settings(run) for run in (first, second)]
    differences = [f"{key} {one} and {settings[1][key]}" for key, one in settings[0].items() if one != settings[1][key]]
    differences = differences or [key for key in differing([first, second]) if key.startswith("dataset")]
    return (
        f"{first.directory} and {second.directory} were tested on other episodes ({'; '.join(differences)}), so nothing pairs "
        f"their scores; "
        f"test one as the other was: metaloop evaluate run={second.directory} [overrides], and compare with what it writes"
    )


def _episode_settings(run: Run) -> dict[str, str]:
    """What episodes depend on, in the words of messages."""
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
    """What differs: keys of the config, then versions, commit and machine."""
    parts = []
    for run in (first, second):
        record = run.record
        origin = {"commit": record.git and record.git.commit, **record.versions, **asdict(record.hardware)}
        parts.append({**dict(flatten(record.config)), **{f"({key})": str(value) for key, value in origin.items()}})
    keys = [key for key in dict.fromkeys([*parts[0], *parts[1]]) if key.split(".")[0] not in INCIDENTAL - {"seed"}]
    values = [(key, parts[0].get(key, formats.NONE), parts[1].get(key, formats.NONE)) for key in keys]
    return [(key, one, other) for key, one, other in values if one != other]


def difference_text(found: Comparison) -> str:
    """Such as ``+1.25 ± 0.40, p < 0.0001``."""
    text = formats.difference(found.difference.interval, found.metric)
    p_value = formats.p_value(found.difference.p_value)
    return f"{text}, p {p_value}" if p_value.startswith("<") else f"{text}, p = {p_value}"


def scatter(found: Comparison, theme: Theme) -> Figure | None:
    """Every episode's score under both; the area of a point says how many episodes lie there. Beside it, the differences.

    Episodes in which a run diverged have no place in it; None where there is no other.
    """
    scores = found.scores[:, np.isfinite(found.scores).all(axis=0)]
    if not scores.size:
        return None
    figure, (ax, beside) = new_figure(theme, 2, (8.2, 3.7))
    scale = found.metric.scale
    points, counts = np.unique(scale * scores, axis=1, return_counts=True)
    ax.scatter(points[0], points[1], s=9 * counts, color=theme.palette[0], alpha=0.45, linewidths=0)
    low, high = float(scores.min()) * scale, float(scores.max()) * scale
    ax.plot([low, high], [low, high], "--", color=theme.muted, linewidth=1)
    unit = found.metric.heading
    titles(ax, theme, f"{unit}: {_cut(found.names[0])}", f"{unit}: {_cut(found.names[1])}")
    gain = scale * (scores[0] - scores[1])
    beside.hist(gain, bins=min(41, max(11, len(np.unique(gain)))), color=theme.palette[0], alpha=0.75)
    beside.axvline(0, color=theme.muted, linestyle="--", linewidth=1)
    beside.axvline(float(gain.mean()), color=theme.palette[1], linewidth=1.6)
    beside.yaxis.set_major_locator(MaxNLocator(integer=True))
    unit = found.metric.difference_unit
    titles(beside, theme, f"first − second, in an episode{f' ({unit})' if unit else ''}", "episodes")
    return figure


def _cut(name: str) -> str:
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")
