"""The network of ratings, and the table of items by alternating least squares."""

import pytest
import torch

from made_ratings import made_up
from metaloop.errors import UserError
from metaloop.models.item_factors import ItemFactors
from metaloop.models.rating_net import RatingNet
from metaloop.testing import check_model
from metaloop.types import Examples, Field

FIELDS = (Field("user", 4, True), Field("decade", 3), Field("genres", 3, labels=True))
X = torch.tensor([[1, 0, 1, 0, 1], [2, 1, 0, 1, 0], [3, 2, 1, 1, 1], [0, 1, 0, 0, 1], [1, 2, 1, 1, 0], [2, 0, 0, 1, 1]])


def net(input_shape: tuple[int, ...] = (5,), outputs: int | None = 1) -> RatingNet:
    return RatingNet(input_shape, outputs, FIELDS, embedding=4, hidden=[6, 5])


def test_the_contract_of_models() -> None:
    check_model(net, (5,), inputs=X)


def test_several_labels_have_the_mean_of_their_embeddings() -> None:
    model = net(outputs=None)
    genres = model.embeddings["genres"].weight
    inputs = []
    model.layers[0].register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    model(X)
    torch.testing.assert_close(inputs[0][0, 8:], (genres[0] + genres[2]) / 2)
    torch.testing.assert_close(inputs[0][1, 8:], genres[1])
    torch.testing.assert_close(inputs[0][:, :4], model.embeddings["user"].weight[X[:, 0]])


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.embedding=0"):
        RatingNet((5,), 1, FIELDS, 0, [4])
    with pytest.raises(ValueError, match="columns"):
        net((4,))


def labelled(users: int = 30, items: int = 12) -> Examples:
    random = torch.Generator().manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(users), torch.arange(items))
    pairs = pairs[torch.rand(len(pairs), generator=random) < 0.8]
    p, q = (torch.randn(count, 2, generator=random) for count in (users, items))
    y = 0.5 + (p @ q.T)[pairs[:, 0], pairs[:, 1]] + 0.3 * torch.arange(items)[pairs[:, 1]]
    return Examples(pairs[:, 1:] + 1, y[:, None], sequence=pairs[:, 0])


def made(examples: Examples | None, factors: int = 2) -> ItemFactors:
    fields = (Field("item", 14),)  # of which number 13 is not rated
    return ItemFactors((1,), None, fields, examples, factors=factors, damping=2.0, penalty=0.01, sweeps=40)


def test_the_first_column_is_the_damped_mean_of_the_item() -> None:
    examples = labelled()
    table, mean = made(examples).table, examples.y.mean()
    for item in (1, 7, 12):
        y = examples.y[examples.x[:, 0] == item]
        assert table[item, 0].item() == pytest.approx((mean + (y - mean).sum() / (len(y) + 2)).item(), abs=1e-5)
    assert table[[0, 13], 0].tolist() == pytest.approx([mean.item()] * 2)
    assert not table[[0, 13], 1:].any()


def test_factors_solve_the_users_and_the_items_normal_equations() -> None:
    examples = labelled()
    table = made(examples).table.double()
    assert isinstance(examples.x, torch.Tensor)
    user, item = examples.sequence, examples.x[:, 0]
    rest = examples.y[:, 0].double() - table[item, 0]
    mean = examples.y.mean()
    assert user is not None
    sums = torch.zeros(30, dtype=torch.float64).index_add(0, user, rest)
    rest = rest - (sums / (torch.bincount(user) + 2))[user]
    left = 0.0
    for each in range(30):
        rows = user == each
        x, y = table[item[rows], 1:], rest[rows]
        p = torch.linalg.solve(x.T @ x + 0.01 * torch.eye(2, dtype=torch.float64), x.T @ y)
        left += (y - x @ p).square().sum().item()
    assert left < 0.02 * rest.square().sum().item(), "two factors explain ratings that two factors made"
    assert mean.isfinite()


def test_a_table_that_will_be_loaded_is_empty_and_of_the_same_size() -> None:
    model = made(None)
    model.load_state_dict(made(labelled()).state_dict())
    assert torch.equal(model.table, made(labelled()).table)
    assert model(torch.tensor([[3]])).shape == (1, 3)


def test_a_table_without_items_or_with_a_head_is_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.ids"):
        ItemFactors((5,), None, FIELDS, None, 2, 5.0, 1.0, 3)
    with pytest.raises(UserError, match="no head"):
        ItemFactors((1,), 1, (Field("item", 3),), None, 2, 5.0, 1.0, 3)


def test_models_of_categories_say_what_they_need() -> None:
    from metaloop.config.build import build_learner_for
    from metaloop.config.trained_on import trained_on
    from metaloop.types import EpisodeSpec

    tasks = trained_on(made_up().split("train"), EpisodeSpec(1, 3, 5))
    assert tasks.fields[0].name == "age"
    assert tasks.labelled is not None
    config = {"model": {"_target_": "metaloop.models.rating_net.RatingNet", "embedding": 2, "hidden": [2]}, "seed": 0}
    config["algorithm"] = {"_target_": "metaloop.learners.context.in_context.InContext"}
    from dataclasses import replace

    with pytest.raises(UserError, match="made_up_ratings"):
        build_learner_for(config, replace(tasks, fields=()))
