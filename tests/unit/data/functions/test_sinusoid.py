"""Function distributions: ranges, truth and refusals."""

import math

import pytest
import torch

from metaloop.data.functions.sinusoid import FunctionDataset, FunctionDistribution, Harmonics, Sinusoids
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Tasks

STREAM, NUMBERS = Stream(0, "train"), torch.arange(4000)
SINUSOIDS = Sinusoids((0.1, 5.0), (0.0, math.pi), (-5.0, 5.0))
HARMONICS = Harmonics((5.0, 7.0), (-4.0, 4.0))


@pytest.mark.parametrize("functions", [SINUSOIDS, HARMONICS])
def test_points_lie_on_the_true_function(functions: FunctionDistribution) -> None:
    tasks: Tasks = functions.draw(STREAM, NUMBERS[:50], EpisodeSpec(1, 5, 7))
    assert tasks.support.x.shape == tasks.support.y.shape == (50, 5, 1)
    assert tasks.query.x.shape == (50, 7, 1)
    for n in range(50):
        x = tasks.query.x[n, :, 0].double()
        truth = functions.true_function(STREAM, NUMBERS[n : n + 1], x, EpisodeSpec(1, 5, 7))[0]
        torch.testing.assert_close(tasks.query.y[n, :, 0].double(), truth, rtol=1e-4, atol=1e-4)


def test_sinusoids_have_the_ranges_of_the_paper() -> None:
    parameters = SINUSOIDS.parameters(STREAM, NUMBERS)
    low, high = parameters.amin(0), parameters.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.1, 0.0, 1.0]).double(), atol=0.02, rtol=0)
    torch.testing.assert_close(high, torch.tensor([5.0, math.pi, 1.0]).double(), atol=0.02, rtol=0)
    assert (low >= torch.tensor([0.1, 0.0, 1.0])).all()
    x = SINUSOIDS.draw(STREAM, NUMBERS, EpisodeSpec(1, 5, 5)).support.x
    assert isinstance(x, torch.Tensor)
    assert -5 <= x.min() < -4.99
    assert 4.99 < x.max() <= 5
    values = SINUSOIDS.values(torch.tensor([[2.0, 0.5, 1.0]]).double(), torch.tensor([[0.5, 0.5 + math.pi / 2]]).double())
    torch.testing.assert_close(values, torch.tensor([[0.0, 2.0]]).double())


def test_frequencies_are_drawn_apart_from_amplitude_and_phase() -> None:
    several = Sinusoids((0.1, 5.0), (0.0, math.pi), (-5.0, 5.0), (0.8, 1.2))
    amplitude, phase, frequency = several.parameters(STREAM, NUMBERS).unbind(-1)
    torch.testing.assert_close(torch.stack([amplitude, phase], -1), SINUSOIDS.parameters(STREAM, NUMBERS)[:, :2])
    assert 0.8 <= frequency.min() < 0.801
    assert 1.199 < frequency.max() <= 1.2
    assert abs(torch.corrcoef(torch.stack([amplitude, phase, frequency]))[2, :2]).max() < 0.05
    values = several.values(torch.tensor([[2.0, 0.5, 1.1]]).double(), torch.tensor([[0.3]]).double())
    torch.testing.assert_close(values.item(), 2 * math.sin(1.1 * 0.3 - 0.5))


def test_harmonics_have_their_distributions() -> None:
    w, a1, a2, p1, p2 = HARMONICS.parameters(STREAM, NUMBERS).unbind(-1)
    assert 5 <= w.min() < 5.01
    assert 6.99 < w.max() <= 7
    for amplitude in (a1, a2):
        assert abs(amplitude.mean()) < 0.05
        assert abs(amplitude.std() - 1) < 0.05
    for phase in (p1, p2):
        assert 0 <= phase.min() < 0.01
        assert 6.27 < phase.max() <= 2 * math.pi
    values = HARMONICS.values(torch.tensor([[5.0, 1.0, 2.0, 0.0, math.pi / 2]]).double(), torch.tensor([[0.1]]).double())
    torch.testing.assert_close(values.item(), math.sin(0.5) + 2 * math.cos(1.0))


def test_support_and_query_points_differ() -> None:
    tasks = SINUSOIDS.draw(STREAM, NUMBERS[:100], EpisodeSpec(1, 5, 5))
    points = torch.cat([tasks.support.x, tasks.query.x], 1)[..., 0]
    assert all(len(set(row)) == 10 for row in points.tolist())


def test_bad_sizes_and_domains() -> None:
    SINUSOIDS.check(EpisodeSpec(1, 5, 10))
    with pytest.raises(UserError, match=r"episode\.ways=5.*episode=regression"):
        SINUSOIDS.check(EpisodeSpec(5, 1, 1))
    with pytest.raises(UserError, match=r"dataset\.domain=\[5, -5\]"):
        Sinusoids((0.1, 5.0), (0.0, 1.0), (5, -5))


def test_shots_may_be_a_range() -> None:
    spec, fixed = EpisodeSpec(1, (2, 5), 4), EpisodeSpec(1, 5, 4)
    SINUSOIDS.check(spec)
    tasks, whole = (SINUSOIDS.draw(STREAM, NUMBERS[:200], each) for each in (spec, fixed))
    assert tasks.support.mask is not None
    assert tasks.query.mask is not None
    shots = tasks.support.mask.sum(1)
    assert set(shots.tolist()) == {2, 3, 4, 5}
    assert torch.equal(tasks.support.mask, torch.arange(5) < shots[:, None])
    assert tasks.query.mask.all()
    assert whole.support.mask is None
    assert torch.equal(tasks.query.y, whole.query.y)  # the functions and points are those of episodes of one size


def test_splits_share_the_distribution() -> None:
    dataset = FunctionDataset(SINUSOIDS)
    assert dataset.split("train") is dataset.split("test")
    with pytest.raises(UserError, match="one of train, validation, test"):
        dataset.split("dev")
