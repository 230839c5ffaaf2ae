"""``metaloop recommend``: which learner to try first on a user's own table, and why."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from metaloop.errors import UserError
from metaloop.system.terminal import printable

if TYPE_CHECKING:  # they import torch, for which the error for a mistyped word should not wait
    from metaloop.data.distribution import NamedExamples
    from metaloop.learners.selection.selector import Selector

_WIDTH = 110  # characters of a line
_KEYS = ("label", "ignore", "categories", "run")


def recommend(table: str, words: Sequence[str], top: int, *, features: bool) -> None:
    """Print which learners to try first on a table, and why.

    Args:
        table: path of the table.
        words: KEY=VALUE, with the keys label, ignore, categories and run.
        top: most learners to name.
        features: whether to print the table's meta-features, too.

    Raises:
        UserError: a word or the table is wrong, or the run chooses no learners by meta-features that a table has.
    """
    if top < 1:
        raise UserError(f"--top {top}: must be at least 1")
    settings = _settings(words)
    values = _meta_features(table, settings)
    if features:
        _print_features(values)
    learner, named = _knowledge(settings.get("run"))
    _recommend(learner, named, values, top)


def _settings(words: Sequence[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _KEYS or not equals or not value:
            raise UserError(f"recommend {word}: write KEY=VALUE; keys: {', '.join(f'{each}=' for each in _KEYS)}")
        settings[key] = value
    return settings


def _meta_features(path: str, settings: dict[str, str]) -> dict[str, float]:
    """The meta-features of the user's table."""
    from metaloop.data.tables.meta_features import meta_features
    from metaloop.data.tables.own_tables import is_own, read_own_table
    from metaloop.data.user.tasks import Columns

    if not is_own(path):
        raise UserError(f"recommend {path}: a table is a .csv, .tsv or .json file")
    ignored, categories = (tuple(filter(None, settings.get(key, "").split(","))) for key in ("ignore", "categories"))
    columns = Columns(label=settings.get("label", "label"), ignore=ignored, categories=categories, prefix="")
    table = read_own_table(path, columns, has_classes=True)
    return meta_features(table.x, table.y)


def _print_features(values: dict[str, float]) -> None:
    from metaloop.data.tables.meta_features import DESCRIPTIONS

    for name, value in values.items():
        print(f"{name:<26}{value:>10.4g}  {DESCRIPTIONS[name]}")


def _knowledge(run: str | None) -> "tuple[Selector, NamedExamples]":
    """A policy and the data sets that it learns from: of a finished run, or a forest on the scenario of the package."""
    from metaloop.config.build import build_dataset, build_learner
    from metaloop.config.composed import compose
    from metaloop.data.scenarios.selection import SelectionTasks
    from metaloop.evaluation.finished_run import FinishedRun
    from metaloop.learners.selection.selector import Selector
    from metaloop.types import EpisodeSpec

    if run is None:
        config = compose("experiment=meta_knowledge", "dataset=learners_on_tables").config
        tasks = build_dataset(config).split("test")
        learner = build_learner(config, tasks, EpisodeSpec(1, 1000, 1))
    else:
        test = FinishedRun.open(run).test()
        tasks, learner = test.episodes.distribution, test.learner
    if not isinstance(learner, Selector) or not isinstance(tasks, SelectionTasks):
        raise UserError(
            f"run={run}: it chooses no learners; name a run of experiment=meta_knowledge dataset=learners_on_tables"
        )
    return learner, tasks.all_examples()


def _recommend(learner: "Selector", named: "NamedExamples", values: dict[str, float], top: int) -> None:
    """Print the learners with the highest predictions, and why the first is the first."""
    import torch

    from metaloop.data.scenarios.learners import LEARNERS

    unknown = [name for name in named.features if name not in values]
    if unknown:
        raise UserError(
            f"the run's meta-features {', '.join(unknown[:5])} are not computed from tables; train it on a scenario with those "
            f"that metaloop recommend --features prints, such as dataset=learners_on_tables"
        )
    numbers = torch.tensor([values[name] for name in named.features], dtype=torch.float32)
    query = torch.stack([numbers, torch.ones_like(numbers)])
    predicted = learner.adapt(named.examples)(query[None, None])[0, 0, :-1]  # without the single best, which is one of these
    single = named.outputs[-1]
    ranked = [named.outputs[place] for place in predicted.argsort(descending=True).tolist()][:top]
    best = {name: float(predicted[named.outputs.index(name)]) for name in ranked}
    lowest = float(predicted.min())
    for number, (name, value) in enumerate(best.items()):
        if number and value <= lowest:
            break  # the policy considers no more
        head = "try first" if number == 0 else f"then ({number + 1})"
        print(printable(f"{head:<12}{name:<34}{LEARNERS.get(name, '')}"))
    explanation = learner.explain(named.examples, named.features, named.outputs, query)
    _print_list("why", [*explanation.choice, _about(single, named)])
    matter = [name for name, share in explanation.importances.items() if share > 0][:5]
    if matter:
        _print_list("matters most", [f"{', '.join(matter)} (over all data sets)"])


def _about(single: str, named: "NamedExamples") -> str:
    count = int(named.examples.y.shape[1])
    mean = float(named.examples.y[0, :, -1].mean())
    return f"known are {count} data sets, on which {single} is the single best with a mean of {mean:.4f}"


def _print_list(title: str, sentences: Sequence[str]) -> None:
    for number, sentence in enumerate(sentences):
        lines = textwrap.wrap(sentence, _WIDTH - 12)
        for row, line in enumerate(lines):
            print(printable(f"{title if number == row == 0 else '':<12}{line}"))
