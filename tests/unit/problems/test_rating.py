"""The problem of ratings."""

import pytest
import torch

from metaloop.errors import UserError
from metaloop.problems.rating import Rating
from metaloop.types import Examples

PROBLEM = Rating(1.0, 5.0, 2, "new users")


def query(*ratings: float) -> Examples:
    return Examples(torch.zeros(1, len(ratings), 1), torch.tensor(ratings)[None, :, None] - 3.0)


def test_scores_by_hand() -> None:
    asked = query(5, 1, 3)
    scores = PROBLEM.scores(torch.tensor([[[1.0], [-1.0], [0.0]]]), asked)
    assert scores["score"].item() == pytest.approx(2 / 3)
    assert scores["rmse"].item() == pytest.approx((2 / 3) ** 0.5)
    assert scores["loss"].item() == pytest.approx(2 / 3)
    assert scores["ndcg_2"].item() == pytest.approx(1.0)


def test_predictions_are_cut_to_the_scale() -> None:
    scores = PROBLEM.scores(torch.tensor([[[9.0], [-9.0], [0.0]]]), query(5, 1, 3))
    assert scores["score"].item() == scores["rmse"].item() == 0.0
    assert scores["loss"].item() > 10


def test_means_of_distributions_are_scored_and_padding_is_not() -> None:
    asked = query(5, 1, 3)
    asked = Examples(asked.x, asked.y, torch.tensor([[True, True, False]]))
    outputs = torch.tensor([[[1.0], [-1.0], [2.0]]])
    plain = PROBLEM.scores(outputs, asked)
    scores = PROBLEM.scores(torch.stack([outputs, torch.ones_like(outputs)], -1), asked)
    for name in ("score", "rmse", "ndcg_2"):
        assert scores[name].item() == plain[name].item()
    assert scores["score"].item() == 1.0
    assert {"log_likelihood", "coverage"} <= set(scores)


def test_the_setting_names_the_scenario() -> None:
    assert PROBLEM.setting(1, 5) == "new users, 5 ratings"
    assert not PROBLEM.metric.higher_is_better


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.top=0"):
        Rating(1, 5, 0, "")
    with pytest.raises(UserError, match="highest rating"):
        Rating(5, 5, 3, "")
