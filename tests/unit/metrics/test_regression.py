"""Mean squared errors against scikit-learn."""

import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_squared_error

from metaloop.metrics.regression import BAND, band, episode_scores


@pytest.mark.parametrize("target", [(), (1,), (3, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_every_episode_equals_scikit_learn(target: tuple[int, ...], masked: bool) -> None:
    predictions, targets = torch.randn(6, 10, *target), torch.randn(6, 10, *target)
    mask = torch.rand(6, 10) < 0.7 if masked else None
    scores = episode_scores(predictions, targets, mask)
    for task in range(6):
        real = mask[task] if mask is not None else slice(None)
        oracle = mean_squared_error(targets[task][real].flatten().numpy(), predictions[task][real].flatten().numpy())
        assert float(scores["score"][task]) == pytest.approx(oracle, rel=1e-5)
    assert torch.equal(scores["score"], scores["loss"])


def test_padding_may_hold_anything() -> None:
    predictions = torch.tensor([[1.0, torch.nan], [2.0, 4.0]])
    mask = torch.tensor([[True, False], [True, True]])
    assert episode_scores(predictions, torch.zeros(2, 2), mask)["score"].tolist() == [1.0, 10.0]


def test_shapes_are_never_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5, 1\), \(4, 5\)"):
        episode_scores(torch.zeros(4, 5, 1), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="shapes"):
        episode_scores(torch.zeros(4, 5), torch.zeros(4, 5), torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize("masked", [False, True])
def test_distributions_have_scipys_likelihood_and_their_means_are_scored(masked: bool) -> None:
    mean, deviation, targets = torch.randn(6, 10, 2), 0.1 + torch.rand(6, 10, 2), torch.randn(6, 10, 2)
    mask = torch.rand(6, 10) < 0.7 if masked else None
    gaussian = torch.stack([mean, deviation], -1)
    scores = episode_scores(gaussian, targets, mask)
    torch.testing.assert_close(scores["score"], episode_scores(mean, targets, mask)["score"])
    assert torch.equal(scores["loss"], -scores["log_likelihood"])
    for task in range(6):
        real = mask[task] if mask is not None else slice(None)
        parts = [part[task][real].numpy() for part in (targets, mean, deviation)]
        assert float(scores["log_likelihood"][task]) == pytest.approx(stats.norm.logpdf(*parts).mean(), rel=1e-4)
        low, high = stats.norm.interval(0.9, *parts[1:])
        assert float(scores["coverage"][task]) == pytest.approx(((low <= parts[0]) & (parts[0] <= high)).mean(), rel=1e-6)


def test_a_band_holds_nine_tenths() -> None:
    gaussian = torch.tensor([2.0, 3.0]).expand(100_000, 2)
    low, high = band(gaussian)
    drawn = 2 + 3 * torch.randn(100_000)
    assert float(((low < drawn) & (drawn < high)).float().mean()) == pytest.approx(BAND, abs=0.005)
