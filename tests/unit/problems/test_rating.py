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
    scores = PROBLEM.scores(torch.stack([outputs, torch.ones_like(outputs)], -1), asked)  # of any step: means are medians
    for name in ("score", "rmse", "ndcg_2"):
        assert scores[name].item() == plain[name].item()
    assert scores["score"].item() == 1.0
    assert {"log_likelihood", "coverage"} <= set(scores)


def test_a_distribution_over_whole_stars_is_scored_by_its_median_for_absolute_errors_and_by_its_mean_for_squared_ones() -> None:
    problem, asked = Rating(1.0, 5.0, 2, "new users", 1.0), query(5, 1, 3)
    means = torch.tensor([[[1.4], [-1.6], [0.5]]])  # of ratings 4.4, 1.4 and 3.5: medians 4, 1 and 4
    scores = problem.scores(torch.stack([means, torch.ones_like(means)], -1), asked)
    assert scores["score"].item() == pytest.approx((1 + 0 + 1) / 3)
    assert scores["rmse"].item() == pytest.approx(((0.6**2 + 0.4**2 + 0.5**2) / 3) ** 0.5)
    errors = problem.errors(means[0, :, 0] + 3, torch.ones(3), asked.y[0, :, 0] + 3)  # of `metaloop predict`, in stars
    assert errors.mean().item() == pytest.approx(scores["score"].item())
    plain = problem.scores(means, asked)  # a learner that predicts numbers has said which
    assert plain["score"].item() == pytest.approx((0.6 + 0.4 + 0.5) / 3)


def test_the_nearest_rating_is_the_one_that_the_absolute_error_asks_for() -> None:
    """Against a search over all numbers: no prediction has a smaller expected absolute error than the median."""
    problem = Rating(1.0, 5.0, 2, "new users", 1.0)
    draws = torch.distributions.Normal(torch.tensor([-1.8, 0.3, 0.9]), 0.9).icdf((torch.arange(4000)[:, None] + 0.5) / 4000)
    ratings = problem.nearest(draws)
    grid = torch.linspace(-2, 2, 81)
    errors = (ratings[:, :, None] - grid).abs().mean(0)
    nearest = problem.nearest(torch.tensor([-1.8, 0.3, 0.9]))
    torch.testing.assert_close((ratings - nearest).abs().mean(0), errors.min(-1).values)
    assert Rating(0.5, 5.0, 2, "", 0.5).nearest(torch.tensor([9.0, 0.1, -9.0])).tolist() == [2.25, 0.25, -2.25]


def test_the_setting_names_the_scenario() -> None:
    assert PROBLEM.setting(1, 5) == "new users, 5 ratings"
    assert not PROBLEM.metric.higher_is_better


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"dataset\.top=0"):
        Rating(1, 5, 0, "")
    with pytest.raises(UserError, match="highest rating"):
        Rating(5, 5, 3, "")
    with pytest.raises(UserError, match="in steps of 9"):
        Rating(1, 5, 3, "", 9)
