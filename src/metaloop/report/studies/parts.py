"""What the pages of all studies share: how it was run, intervals of columns, and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metaloop.metrics.interval import Interval, mean_interval
from metaloop.records.studies import Evaluated, StudyRecord
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.tables.markdown import escape


@dataclass(frozen=True)
class StudyPage:
    """A page and its pictures.

    Attributes:
        text: Markdown, with pictures below ``images/``.
        pictures: PNG files by name.
    """

    text: str
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def intro(record: StudyRecord, title: str, about: str) -> str:
    """Heading, purpose, the command, and what was trained for how long on which machine."""
    facts = record.facts
    steps = formats.either(sorted({run.steps for run in facts.runs}))
    tasks = formats.either(sorted({run.meta_batch for run in facts.runs}))
    seconds = sum(run.cpu_seconds or 0.0 for run in facts.runs)
    machines = sorted({f"{run.hardware.cpu}, {run.hardware.threads} thread(s)" for run in facts.runs})
    commits = sorted({(run.commit or "unknown")[:10] for run in facts.runs})
    shared = [word for word in facts.runs[0].overrides if all(word in run.overrides for run in facts.runs)]
    return (
        f"# {title}\n\n{about}\n\nMade by `{' '.join(facts.command)}` from docs/records/studies/{facts.study}; changes by "
        f"hand are lost. {len(facts.runs)} trainings of {steps} outer steps of {tasks} tasks, seed {facts.runs[0].seed}, "
        f"{formats.duration(seconds)} of processor time in all ({escape('; '.join(machines))}; commit {', '.join(commits)}), "
        f"each with `{' '.join(shared)}`. Intervals are 95 % over meta-test episodes of these trained networks; they say "
        "nothing about other training seeds.\n"
    )


def interval(scores: Array) -> Interval:
    """Mean of episodes' scores with its interval."""
    return mean_interval(scores)


def gap(first: Array, second: Array) -> Interval:
    """Mean of ``first - second`` over the episode numbers that both have, with its interval."""
    both = min(len(first), len(second))
    return mean_interval(first[:both] - second[:both])


def shown(record: StudyRecord, scores: Array) -> str:
    """A mean with its interval as text."""
    each = interval(scores)
    return record.facts.metric.interval(each.mean, each.half_width)


def by_setting(record: StudyRecord, keys: Sequence[str]) -> dict[tuple[str, ...], Evaluated]:
    """The evaluations that have all of these keys, by their values of them; of several, the last."""
    found = {}
    for one in record.facts.evaluations:
        settings = record.settings(one)
        if all(key in settings for key in keys):
            found[tuple(settings[key] for key in keys)] = one
    return found
