"""UCRL2, against linear programs and values by hand."""

import math

import pytest
import torch
from scipy.optimize import linprog
from trials import played

from metaloop.control.agents.simple import Told
from metaloop.control.agents.tabular import Experience
from metaloop.control.agents.ucrl2 import UCRL2, optimistic
from metaloop.control.environments.tabular import TabularMDPs, solved
from metaloop.control.noise import TrialNoise
from metaloop.errors import UserError


def seen(moved: list[list[list[float]]], paid: list[list[float]], horizon: int = 2) -> Experience:
    """Experience of one task, by state and action."""
    return Experience(torch.tensor([moved]), torch.tensor([paid]), TrialNoise(torch.arange(1), 1, "policy"), horizon)


@pytest.mark.parametrize("distance", [0.0, 0.3, 1.1, 2.0])
def test_the_best_plausible_probabilities_solve_the_linear_program(distance: float) -> None:
    """Maximize p v with p >= 0, sum p = 1, |p - q| <= d, by the parts of p - q above and below 0."""
    torch.manual_seed(0)
    chances, values = torch.rand(1, 3, 1, 4).double().softmax(-1), torch.randn(1, 4).double()
    best = optimistic(chances, torch.full((1, 3, 1), distance, dtype=torch.float64), values)
    assert torch.allclose(best.sum(-1), torch.ones(1, 3, 1).double())
    assert bool(((best - chances).abs().sum(-1) <= distance + 1e-9).all())
    for row, found in zip(chances[0, :, 0], (best @ values[0])[0, :, 0], strict=True):
        cost = torch.cat([-values[0], values[0]]).tolist()
        bounds = [(0, None)] * 4 + [(0, float(chance)) for chance in row]
        result = linprog(cost, A_ub=[[1.0] * 8], b_ub=[distance], A_eq=[[1.0] * 4 + [-1.0] * 4], b_eq=[0.0], bounds=bounds)
        assert found.item() == pytest.approx(float(row @ values[0]) - result.fun, abs=1e-7)


def test_distances_are_those_of_the_paper() -> None:
    """Two states, two actions, 4 steps: the first action was taken three times in state 0 and once in state 1."""
    experience = seen([[[2.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]], [[3.0, 0.0], [2.0, 0.0]])
    of_rewards, of_chances = UCRL2(0.1, 0.5).distances(experience)
    reward, chance = math.log(2 * 2 * 2 * 4 / 0.1), math.log(2 * 2 * 4 / 0.1)
    assert of_rewards[0, 0, 0].item() == pytest.approx(0.5 * 2 * math.sqrt(7 * reward / 6), rel=1e-6)
    assert of_rewards[0, 1, 1].item() == pytest.approx(0.5 * 2 * math.sqrt(7 * reward / 2), rel=1e-6)
    assert of_chances[0, 0, 0].item() == pytest.approx(0.5 * math.sqrt(14 * 2 * chance / 3), rel=1e-6)
    assert of_chances[0, 1, 1].item() == 2.0


def test_a_plan_takes_the_best_reward_and_the_best_next_state() -> None:
    """With small distances r and d of actions seen 100 times; their values for two steps left, by hand."""
    experience = seen([[[60.0, 40.0], [100.0, 0.0]], [[0.0, 100.0], [30.0, 70.0]]], [[100.0, 50.0], [200.0, 0.0]])
    agent = UCRL2(0.5, 0.01)
    of_rewards, of_chances = (float(each[0, 0, 0]) for each in agent.distances(experience))
    first, second = agent.plan(experience)
    assert first[0].tolist() == [pytest.approx([1 + of_rewards, 0.5 + of_rewards]), pytest.approx([2 + of_rewards, of_rewards])]
    share = 0.4 + of_chances / 2  # of the better state 1, after the first action in state 0
    assert second[0, 0, 0].item() == pytest.approx(1 + of_rewards + share * (2 + of_rewards) + (1 - share) * (1 + of_rewards))


def test_without_distances_it_plans_with_what_was_observed() -> None:
    torch.manual_seed(0)
    moved, paid = torch.randint(1, 5, (1, 3, 2, 3)).float(), torch.randn(1, 3, 2)
    experience = Experience(moved, paid, TrialNoise(torch.arange(1), 1, "policy"), 4)
    visits = moved.sum(-1)
    expected = solved(moved / visits[..., None], paid / visits, 4)
    for found, each in zip(UCRL2(0.05, 0.0).plan(experience), expected, strict=True):
        assert torch.allclose(found, each, atol=1e-5)


def test_it_learns_decision_processes() -> None:
    environment = TabularMDPs(5, 3, 6)
    oracle = played(environment, Told(), 200, episodes=20).returns
    regret = (oracle - played(environment, UCRL2(0.05, 0.2), 200, episodes=20).returns).mean(0)
    assert regret[-5:].mean() < 0.6 * regret[:3].mean()


def test_bad_settings_and_other_environments_are_refused() -> None:
    for delta, scale, key in ((0.0, 1.0, "delta=0"), (1.0, 1.0, "delta=1"), (0.1, -1.0, "scale=-1")):
        with pytest.raises(UserError, match=rf"algorithm\.agent\.{key}"):
            UCRL2(delta, scale)
