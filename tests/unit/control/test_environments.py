"""Families of environments: their tasks, their physics, and what the best policy earns."""

import math

import pytest
import torch
from torch.utils._pytree import tree_leaves
from trials import ALL_FAMILIES, FAMILIES, played, tasks_of, world_of

from metaloop.control.agents.simple import Random, Told
from metaloop.control.environments.cart_pole import CartPole
from metaloop.control.environments.catch import Catch
from metaloop.control.environments.environment import Environment, Environments
from metaloop.control.environments.grids import DarkRoom
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.pendulum import Pendulum
from metaloop.control.environments.pixel_maze import PixelMaze
from metaloop.control.environments.tabular import TabularMDPs, solved
from metaloop.control.noise import TrialNoise, chosen
from metaloop.data.episodes import check_spec
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec

families = pytest.mark.parametrize("environment", ALL_FAMILIES.values(), ids=ALL_FAMILIES)
of_known_best = pytest.mark.parametrize("environment", FAMILIES.values(), ids=FAMILIES)


@families
def test_a_task_and_its_trial_are_functions_of_its_number(environment: Environment) -> None:
    whole, part = tasks_of(environment, 6), tasks_of(environment, 2, first=3)
    for one, other in zip(tree_leaves(whole[3:5]), tree_leaves(part), strict=True):
        assert torch.equal(one, other)
    together, alone = played(environment, Random(), 6), played(environment, Random(), 2, first=3)
    assert torch.equal(together.returns[3:5], alone.returns)
    assert torch.equal(together.actions[:, 3:5], alone.actions)


@families
def test_tasks_differ_and_have_a_world_each(environment: Environment) -> None:
    tasks = tasks_of(environment, 40)
    values = torch.cat([value.reshape(40, -1).double() for value in world_of(tasks).parameters.values()], 1)
    assert len(values.unique(dim=0)) > 15
    assert world_of(tasks[3:5]).episodes == 2
    assert len(next(iter(world_of(tasks[3:5]).parameters.values()))) == 2
    assert tasks.query.x.shape == (40, 2, *environment.input_shape)  # type: ignore[union-attr]
    assert tasks.query.y.shape == (40, 2)


@of_known_best
def test_the_oracle_earns_the_best_expected_return_and_chance_less(environment: Environment) -> None:
    """For environments without chance exactly, for others within four standard errors."""
    tasks = tasks_of(environment, 1500)
    earned, best = played(environment, Told(), 1500).returns, tasks.query.y
    by_chance = played(environment, Random(), 1500).returns
    if environment.noise == 0:
        assert torch.allclose(earned, best, atol=1e-4)
    gain = (earned - best).mean(1)
    assert abs(gain.mean()) <= 4 * gain.std() / math.sqrt(1500) + 1e-5
    assert by_chance.mean() < earned.mean() - 10 * (earned - by_chance).std() / math.sqrt(3000)


@families
def test_sizes_other_than_one_world_are_refused(environment: Environment) -> None:
    for spec in (EpisodeSpec(5, 1, 2), EpisodeSpec(1, 2, 2)):
        with pytest.raises(UserError, match=r"a task of control is one environment.*episode=trial"):
            check_spec(environment, spec)
    assert "episodes" in environment.problem.size(EpisodeSpec(1, 1, 2))


def test_every_split_has_its_own_tasks_and_one_family() -> None:
    dataset = Environments(FAMILIES["bernoulli"])
    assert dataset.split("train") is dataset.split("test")
    with pytest.raises(UserError, match="split 'else'"):
        dataset.split("else")


def test_values_of_a_decision_process_agree_with_enumeration() -> None:
    """All policies of two states, two actions and three steps, in float64."""
    environment = TabularMDPs(2, 2, 3)
    parameters = {name: value.double() for name, value in world_of(tasks_of(environment, 4)).parameters.items()}
    transitions, rewards = parameters["transitions"], parameters["rewards"]
    best = torch.full((4,), -torch.inf, dtype=torch.float64)
    for number in range(4**3):  # an action for each state and time
        place = torch.zeros(4, 2, dtype=torch.float64)
        place[:, 0] = 1
        total = torch.zeros(4, dtype=torch.float64)
        for time in range(3):
            actions = [(number >> (2 * time + state)) & 1 for state in range(2)]
            total += sum(place[:, state] * rewards[:, state, action] for state, action in enumerate(actions))
            place = sum(place[:, state, None] * transitions[:, state, action] for state, action in enumerate(actions))
        best = torch.maximum(best, total)
    assert torch.allclose(solved(transitions, rewards, 3)[-1].amax(-1)[:, 0], best)
    assert torch.allclose(transitions.sum(-1), torch.ones(()).double(), atol=1e-6)


def test_rewards_and_transitions_have_the_moments_of_the_paper() -> None:
    parameters = world_of(tasks_of(TabularMDPs(10, 5, 10), 400)).parameters
    assert parameters["rewards"].mean().item() == pytest.approx(1, abs=0.03)
    assert parameters["rewards"].std().item() == pytest.approx(1, abs=0.03)
    transitions = parameters["transitions"]
    assert transitions.var().item() == pytest.approx(9 / (100 * 11), rel=0.03)  # of an entry of Dirichlet(1, ..., 1)


def test_a_point_stops_at_its_goal_and_waits_there() -> None:
    rollouts = played(PointNavigation(20, "square", 0.2), Told(), 50, episodes=3)
    lengths = rollouts.real.view(3, 20, 50).sum(1)
    assert lengths.min() < lengths.max() < 20
    assert bool((rollouts.rewards[~rollouts.real] == 0).all())


def test_the_best_way_in_a_dark_room_is_as_long_as_the_distance() -> None:
    world = world_of(tasks_of(DarkRoom(9, 20), 100))
    distance = (world.parameters["goal"] - 4).abs().sum(1)
    expected = torch.where(distance > 0, 21 - distance, 20)
    assert torch.equal(world.environment.best_return(world.parameters), expected.float())


def test_draws_from_categories_have_their_probabilities() -> None:
    uniform = (torch.arange(1000) + 0.5) / 1000
    probabilities = torch.tensor([0.2, 0.0, 0.5, 0.3]).expand(1000, -1)
    assert chosen(probabilities, uniform).bincount().tolist() == [200, 0, 500, 300]
    assert chosen(probabilities, torch.full((1000,), 1 - 2.0**-24)).unique().tolist() == [3]


def test_noise_is_uniform_and_independent_of_what_is_drawn_beside_it() -> None:
    numbers = torch.arange(4000) * 7919
    noise, other = TrialNoise(numbers, 2, "steps"), TrialNoise(numbers[5:9], 2, "steps")
    drawn = torch.stack([noise.next() for _ in range(70)])
    assert torch.equal(torch.stack([other.next() for _ in range(70)]), drawn[:, 5:9])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.003)
    assert torch.corrcoef(drawn.flatten(2).permute(0, 2, 1).reshape(-1, 4000)[:60]).fill_diagonal_(0).abs().max() < 0.1
    assert not torch.equal(TrialNoise(numbers, 2, "starts").next(), drawn[0])


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: bandit(1), "arms=1"),
        (lambda: TabularMDPs(1, 5, 10), "states=1"),
        (lambda: TabularMDPs(10, 5, 0), "horizon=0"),
        (lambda: PointNavigation(10, "circle", 0.2), "goals='circle'"),
        (lambda: DarkRoom(1, 10), "size=1"),
        (lambda: Catch(1, 5, 0.2), "rows=1"),
        (lambda: Catch(10, 5, 1.5), "wind=1.5"),
        (lambda: PixelMaze(5, 40, -0.1, 0.01, False), "passages=-0.1"),
        (lambda: PixelMaze(5, 40, 0.1, -1, False), "step_cost=-1"),
        (lambda: CartPole(10, 1.0, 0.1, 0.5, 10.0, reversed_share=2), "reversed_share=2"),
        (lambda: CartPole(10, 1.0, 0, 0.5, 10.0, reversed_share=0), "pole_mass=0"),
        (lambda: Pendulum(0, 10.0, 1.0, 1.0), "horizon=0"),
    ],
)
def test_bad_settings_are_refused_by_their_key(make: object, key: str) -> None:
    with pytest.raises(UserError, match=f"dataset.environment.{key}"):
        make()  # type: ignore[operator]


def bandit(arms: int) -> Environment:
    return type(FAMILIES["bernoulli"])(arms=arms)  # type: ignore[call-arg]
