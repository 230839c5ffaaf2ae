"""Evidence candidates: the items that a new user is asked about first."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from metaloop.config.build import build_dataset, build_plan
from metaloop.config.trained_on import trained_on
from metaloop.data.ratings.dataset import Ratings
from metaloop.data.recorded import RecordedDataset
from metaloop.errors import UserError
from metaloop.evaluation.device import set_up_device
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.learners.acquisition import Acquisition, Candidates, GradientNorm, Popularity, PopularityEntropy
from metaloop.system.suggestions import did_you_mean

RULES: Mapping[str, Acquisition] = {
    "popularity_entropy": PopularityEntropy(),
    "popularity": Popularity(),
    "gradient_norm": GradientNorm(),
}


@dataclass(frozen=True)
class Questions:
    """Items to ask a new user about, the most telling first.

    Attributes:
        items: identifiers.
        titles: what a person calls them.
        values: values of the acquisition rule.
        ratings: number of ratings in meta-training.
    """

    items: tuple[str, ...]
    titles: tuple[str, ...]
    values: tuple[float, ...]
    ratings: tuple[int, ...]

    def table(self) -> dict[str, list[str] | list[float] | list[int]]:
        """Columns of the file, which is a support file as soon as the column ``rating`` is filled in."""
        return {
            "item": list(self.items),
            "title": list(self.titles),
            "rating": [""] * len(self.items),
            "value": list(self.values),
            "ratings_in_training": list(self.ratings),
        }


def evidence(run: str | Path, count: int, rule: str, *, unfinished: bool = False, trust: Collection[str] = ()) -> Questions:
    """Choose the items that a new user is asked about first, by the meta-training ratings of a run.

    Args:
        run: run directory.
        count: number of items, at least 1.
        rule: name of the acquisition rule, one of :data:`RULES`.
        unfinished: whether to accept a run whose training was stopped.
        trust: packages that the run's config may name besides metaloop, if the run comes from elsewhere.

    Raises:
        UserError: the rule is unknown or does not fit the learner, or the run was not trained on ratings.
    """
    if rule not in RULES:
        raise UserError(f"rule={rule}: {did_you_mean(rule, tuple(RULES))}rules: {', '.join(RULES)}")
    opened = FinishedRun.open(run, unfinished=unfinished, trust=trust)
    config = opened.config
    dataset = build_dataset(config)
    if not isinstance(dataset, Ratings):
        raise UserError(f"ask=: the run was trained on {config['dataset']['_target_']}, which has no items to ask about")
    set_up_device({**config, "trainer": {**config["trainer"], "accelerator": "cpu"}})
    recorded = RecordedDataset(dataset, opened.contents)
    train = dataset.split("train")
    recorded.split("train")  # compares
    learner = opened.learner(config, trained_on(train, build_plan(config).fitted(recorded).train_spec)).eval()
    candidates = Candidates(len(dataset.table.items.names), train.labelled(), train.rows.item)
    values, popularity = RULES[rule].values(learner, candidates), candidates.popularity
    best = torch.argsort(values, descending=True, stable=True)[: min(count, int((popularity > 0).sum()))].tolist()
    items = dataset.table.items
    return Questions(
        tuple(items.names[place] for place in best),
        tuple(items.titles[place] for place in best),
        tuple(values[best].tolist()),
        tuple(int(popularity[place]) for place in best),
    )
