"""Ratings as tasks: the four scenarios, what may be seen in each, and which ratings a task has."""

from pathlib import Path

import numpy as np
import pytest
import torch

from made_ratings import made_up
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.ratings.dataset import SCENARIOS
from metaloop.data.ratings.tasks import RatingTasks, first_column
from metaloop.errors import UserError
from metaloop.testing import check_dataset
from metaloop.types import EpisodeSpec, Tasks

SPEC = EpisodeSpec(1, 3, 6)


def drawn(tasks: RatingTasks, split: str, count: int = 40, spec: EpisodeSpec = SPEC) -> Tasks:
    return Episodes(tasks, spec, Stream(0, split)).tasks(torch.arange(count))


def pairs(tasks: RatingTasks) -> set[tuple[str, int]]:
    users = [tasks.users[place] for place in tasks.rows.user.tolist()]
    return set(zip(users, tasks.rows.item.tolist(), strict=True))


@pytest.mark.parametrize("scenario", ["new_users", "warm"])
def test_the_contract_of_data_sets(scenario: str) -> None:
    check_dataset(made_up(scenario=scenario), SPEC)
    check_dataset(made_up(scenario=scenario, hidden=0.3, ids=["user", "item"]), EpisodeSpec(1, (1, 3), 6), disjoint=False)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_new_users_and_items_are_in_no_other_split(scenario: str) -> None:
    dataset = made_up(scenario=scenario)
    splits = {name: pairs(dataset.split(name)) for name in ("train", "validation", "test")}
    _, new_users, new_items = SCENARIOS[scenario]
    users, items = ({name: {pair[place] for pair in found} for name, found in splits.items()} for place in (0, 1))
    for name in ("validation", "test"):
        assert splits[name]
        assert bool(users["train"] & users[name]) is not new_users
        assert bool(items["train"] & items[name]) is not new_items
        asked = dataset.split(name).rows.asked
        assert (bool(splits["train"] & splits[name])) is (scenario == "warm")
        assert bool(asked.any()) is (scenario == "warm")
    assert not (users["validation"] & users["test"] if new_users else items["validation"] & items["test"] if new_items else 0)


def test_no_query_of_the_warm_scenario_was_trained_on() -> None:
    dataset = made_up(scenario="warm")
    trained = pairs(dataset.split("train"))
    for name in ("validation", "test"):
        tasks = dataset.split(name)
        users = [tasks.users[place] for place in tasks.rows.user.tolist()]
        for user, item, asked in zip(users, tasks.rows.item.tolist(), tasks.rows.asked.tolist(), strict=True):
            assert ((user, item) in trained) is not asked


def test_meta_training_is_the_same_in_all_scenarios() -> None:
    digests = {made_up(scenario=scenario).split("train").contents().digest for scenario in SCENARIOS}
    assert len(digests) == 1


def test_identifiers_of_what_is_new_are_unknown() -> None:
    dataset = made_up(scenario="new_both", ids=["user", "item"])
    for name in ("validation", "test"):
        x = dataset.split(name).rows.x
        for kind in ("user", "item"):
            assert not x[:, first_column(dataset.fields, kind)].any()
    x = dataset.split("train").rows.x
    assert x[:, first_column(dataset.fields, "user")].all()


def test_each_round_has_each_user_once_with_others_as_queries() -> None:
    tasks = made_up().split("train")
    users = tasks.eligible(SPEC)
    found = tasks.users_of(Stream(0, "train"), torch.arange(2 * len(users)), SPEC)
    for part in (found[: len(users)], found[len(users) :]):
        assert sorted(part.tolist()) == users.tolist()
    assert found[: len(users)].tolist() != found[len(users) :].tolist()
    many = drawn(tasks, "train", spec=EpisodeSpec(1, 3, 200))
    assert many.query.mask is not None
    sizes = torch.bincount(tasks.rows.user)[tasks.users_of(Stream(0, "train"), torch.arange(40), SPEC)]
    assert many.query.mask.sum(1).tolist() == (sizes - 3).tolist()


def test_a_list_of_items_chooses_the_support_and_leaves_the_queries(tmp_path: Path) -> None:
    path = tmp_path / "ask.csv"
    names = made_up().table.items.names
    first = np.random.default_rng(3).permutation(len(names))
    path.write_text("item\n" + "".join(f"{names[place]}\n" for place in first))
    at_random, chosen = (drawn(made_up(evidence=each).split("test"), "test") for each in (None, str(path)))
    assert torch.equal(at_random.query.x, chosen.query.x)
    assert torch.equal(at_random.query.y, chosen.query.y)
    assert not torch.equal(at_random.support.x, chosen.support.x)
    tasks = made_up(evidence=str(path)).split("test")
    places = {int(item): place for place, item in enumerate(first)}
    column = first_column(made_up().fields, "item")
    for task, user in enumerate(tasks.users_of(Stream(0, "test"), torch.arange(5), SPEC).tolist()):
        rated = tasks.rows.item[tasks.rows.user == user].tolist()
        asked = chosen.query.x[task, :, column] - 1
        rest = sorted(set(rated) - set(asked.tolist()), key=places.__getitem__)
        assert (chosen.support.x[task, :, column] - 1).tolist() == rest[:3]


def test_the_share_of_hidden_identifiers() -> None:
    column = first_column(made_up().fields, "item")
    tasks = drawn(made_up(hidden=0.25).split("train"), "train", 300)
    share = (tasks.query.x[..., column] == 0).double().mean().item()
    assert abs(share - 0.25) < 0.04
    assert (drawn(made_up(hidden=0.25).split("test"), "test").query.x[..., column] > 0).all()


def test_the_baseline_is_the_items_mean_and_the_users_bias() -> None:
    dataset = made_up()
    train, tasks = dataset.split("train"), dataset.split("test")
    made = drawn(tasks, "test", 1)
    column = first_column(dataset.fields, "item")
    mean = train.rows.y.mean()

    def expected(codes: torch.Tensor) -> torch.Tensor:
        rows = [train.rows.y[train.rows.x[:, column] == code] - mean for code in codes.tolist()]
        return torch.stack([mean + each.sum() / (len(each) + 5) for each in rows])

    support = made.support.y[0, :, 0] - expected(made.support.x[0, :, column])
    answers = expected(made.query.x[0, :, column]) + support.sum() / (3 + 5)
    found = tasks.baseline().answer(made.support, made.query.x)[0, :, 0]
    torch.testing.assert_close(found, answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenario": "cold"}, r"dataset\.scenario='cold' must be one of warm, new_users"),
        ({"ids": ["film"]}, r"dataset\.ids.*'film'"),
        ({"hidden": 1.0}, r"dataset\.hidden=1\.0"),
        ({"shares": {"users": [0.5, 0.5], "items": [0.1, 0.1], "ratings": [0.1, 0.1]}}, r"dataset\.shares\.users"),
        ({"users": 3}, r"dataset\.users=3"),
        ({"top": 0}, r"dataset\.top=0"),
    ],
)
def test_bad_settings_name_their_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made_up(**change)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (EpisodeSpec(2, 3, 6), "ways"),
        (EpisodeSpec(1, 3, 2), r"episode\.queries=2: at least 5"),
        (EpisodeSpec(1, 300, 6), r"episode\.shots=300: no user of the test split \(new users\).*at most"),
    ],
)
def test_impossible_episodes_are_refused(spec: EpisodeSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made_up().split("test").check(spec)
