"""The classical algorithms, against closed forms, exhaustive planning and published totals."""

from functools import cache

import pytest
import torch
from scipy.stats import beta, kstest
from trials import FAMILIES, played, tasks_of

from metaloop.control.agents.bandits import UCB1, Gittins, Greedy, IndexPolicy, Pulls, Thompson
from metaloop.control.agents.gittins import discounted_indices, finite_indices
from metaloop.control.agents.simple import Told
from metaloop.control.agents.tabular import BEB, PSRL, Experience, Planner
from metaloop.control.agents.ucrl2 import UCRL2
from metaloop.control.environments.bandits import BernoulliBandits, GaussianBandits
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy
from metaloop.errors import UserError
from metaloop.problems.control import Control

AGENTS = [Greedy(0.0), Greedy(0.1), UCB1(0.2), Thompson(optimistic=False), Thompson(optimistic=True), Gittins(None)]


@cache
def best_total(arms: tuple[tuple[int, int], ...], left: int) -> float:
    """Bayes-optimal total reward of Bernoulli arms with these successes and failures, by exhaustive planning."""
    if not left:
        return 0.0
    values = []
    for place, (successes, failures) in enumerate(arms):
        mean, others = (successes + 1) / (successes + failures + 2), arms[:place] + arms[place + 1 :]
        won = best_total(tuple(sorted((*others, (successes + 1, failures)))), left - 1)
        lost = best_total(tuple(sorted((*others, (successes, failures + 1)))), left - 1)
        values.append(mean * (1 + won) + (1 - mean) * lost)
    return max(values)


def test_indices_of_endless_pulls_are_those_of_gittins_tables() -> None:
    """Gittins, Glazebrook and Weber 2011, chapter 8: of Beta(1, 1), Beta(2, 1) and Beta(1, 2) with discount 0.9."""
    indices = discounted_indices(2, 0.9)
    assert indices[0, 0].item() == pytest.approx(0.7029, abs=2e-4)
    assert indices[1, 0].item() == pytest.approx(0.8001, abs=2e-4)
    assert indices[0, 1].item() == pytest.approx(0.5001, abs=2e-4)


@pytest.mark.slow
def test_an_index_of_nearly_undiscounted_pulls_is_that_of_gittins_table() -> None:
    assert discounted_indices(1, 0.99)[0, 0].item() == pytest.approx(0.8699, abs=2e-4)


def test_indices_of_few_pulls_are_those_of_arithmetic() -> None:
    indices = finite_indices(3)
    means = torch.tensor([[1 / 2, 1 / 3, 1 / 4], [2 / 3, 2 / 4, 2 / 5], [3 / 4, 3 / 5, 3 / 6]])
    assert torch.allclose(indices[1], means, atol=1e-4)
    # Two pulls left: 1/2 + 1/2 * 2/3 + 1/2 * payment = 2 * payment.
    assert indices[2][0, 0].item() == pytest.approx(5 / 9, abs=1e-4)
    assert bool((indices[3][0, 0] > indices[2][0, 0]) & (indices[2][0, 0] > indices[1][0, 0]))


def test_the_index_of_the_pulls_left_is_nearly_bayes_optimal_and_no_agent_is_better() -> None:
    """On the same tasks with the same noise; the value of the best policy is exact."""
    best = best_total(((0, 0),) * 3, 6)
    totals = {i: played(FAMILIES["bernoulli"], agent, 3000, episodes=6).returns.sum(1) for i, agent in enumerate(AGENTS)}
    for total in totals.values():
        assert total.mean().item() < best + 4 * total.std().item() / 3000**0.5
    gittins = totals[len(AGENTS) - 1]
    assert gittins.mean().item() == pytest.approx(best, abs=4 * gittins.std().item() / 3000**0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "pulls", "published", "tolerance"),
    [
        (Gittins(None), 10, 6.6, 0.1),
        (UCB1(0.2), 10, 6.7, 0.1),
        (Greedy(0.0), 10, 6.6, 0.1),
        (Gittins(None), 100, 78.3, 0.6),
        (UCB1(0.2), 100, 78.0, 0.6),
        (Thompson(optimistic=False), 100, 74.7, 0.8),
    ],
)
def test_totals_are_those_of_the_published_table(agent: ControlPolicy, pulls: int, published: float, tolerance: float) -> None:
    """Duan et al. 2016, table 1, five arms; the tolerance covers the sampling of their 1,000 tasks and of ours."""
    total = played(BernoulliBandits(5), agent, 4000, episodes=pulls).returns.sum(1)
    assert total.mean().item() == pytest.approx(published, abs=tolerance)


def test_draws_of_thompson_are_those_of_the_posterior() -> None:
    pulled = torch.tensor([[5.0, 0.0]]).expand(3000, 2)
    paid = torch.tensor([[4.0, 0.0]]).expand(3000, 2)
    noise = TrialNoise(torch.arange(3000), 6, "policy").next().view(3000, 2, 3)
    arms = Pulls(pulled, paid, TrialNoise(torch.arange(3000), 6, "policy"), 5, bernoulli=True)
    drawn = Thompson(optimistic=False).index(arms, noise[..., :2])
    assert kstest(drawn[:, 0].numpy(), beta(5, 2).cdf).pvalue > 0.001
    assert kstest(drawn[:, 1].numpy(), beta(1, 1).cdf).pvalue > 0.001
    assert bool((Thompson(optimistic=True).index(arms, noise[..., :2]) >= arms.mean).all())


@pytest.mark.parametrize("agent", AGENTS[:-1], ids=lambda agent: type(agent).__name__)
def test_agents_learn_normal_arms_too(agent: IndexPolicy) -> None:
    total = played(GaussianBandits(3), agent, 400, episodes=30).returns
    best = tasks_of(GaussianBandits(3), 400, episodes=30).query.y
    early, late = (best - total)[:, :5].mean(), (best - total)[:, -5:].mean()
    assert late < early / 2


def test_planners_learn_decision_processes() -> None:
    environment = TabularMDPs(5, 3, 6)
    oracle = played(environment, Told(), 300, episodes=20).returns
    for planner in (PSRL(), BEB(0.5)):
        regret = (oracle - played(environment, planner, 300, episodes=20).returns).mean(0)
        assert regret[-5:].mean() < 0.6 * regret[:3].mean()


def test_the_mean_that_is_expected_moves_the_draws_of_what_was_not_visited() -> None:
    """A posterior mean is (sum of rewards + prior mean) / (visits + 1)."""
    paid = torch.tensor([[[0.0, 6.0]]])
    drawn = []
    for prior in (0.0, 1.0):
        moved = torch.tensor([[[[0.0], [3.0]]]])
        experience = Experience(moved, paid, TrialNoise(torch.arange(1), 2 * 3, "policy", block=1), 5)
        drawn.append(PSRL(prior).estimate(experience)[1])
    assert (drawn[1] - drawn[0]).flatten().tolist() == pytest.approx([1.0, 0.25])


@pytest.mark.slow
def test_planners_earn_what_the_published_table_says() -> None:
    """Duan et al. 2016, table 2, 10 episodes: BEB 150.2. Its beta is tuned there."""
    total = played(TabularMDPs(10, 5, 10), BEB(0.5), 1000, episodes=10).returns.sum(1)
    assert total.mean().item() == pytest.approx(150.2, abs=3)


@pytest.mark.parametrize("agent", [*AGENTS, PSRL(), BEB(1.0), UCRL2(0.05, 1.0)], ids=lambda agent: type(agent).__name__)
def test_an_agent_says_which_environments_it_is_for(agent: ControlPolicy) -> None:
    family = "bernoulli" if isinstance(agent, Planner) else "tabular"
    with pytest.raises(UserError, match=f"algorithm/agent: {type(agent).__name__} is an algorithm of .* take dataset="):
        played(FAMILIES[family], agent, 2)


def test_the_indices_are_of_bernoulli_arms() -> None:
    with pytest.raises(UserError, match="algorithm/agent=gittins"):
        played(GaussianBandits(3), Gittins(None), 2)
    with pytest.raises(UserError, match=r"algorithm\.agent\.discount=1"):
        played(BernoulliBandits(3), Gittins(1.0), 2)


def test_regret_is_what_the_oracle_has_more() -> None:
    tasks = tasks_of(FAMILIES["bernoulli"], 50, episodes=8)
    returns = played(FAMILIES["bernoulli"], Greedy(0.0), 50, episodes=8).returns
    problem = FAMILIES["bernoulli"].problem
    assert isinstance(problem, Control)
    scores = problem.scores(returns, tasks.query)
    assert torch.allclose(scores["score"] + scores["regret"], tasks.query.y.sum(1))
    assert torch.allclose(scores["loss"], problem.losses(returns, tasks.query), atol=1e-6)
    assert torch.equal(scores["last_return"], returns[:, -1])
