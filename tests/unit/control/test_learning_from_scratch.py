"""Q-learning and policies that are drawn, and the tables of observations that Q-learning keeps."""

import pytest
import torch
from trials import FAMILIES, played, tasks_of, world_of

from metaloop.control.agents.q_learning import QLearning
from metaloop.control.agents.simple import Drawn
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.grids import DarkRoom
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.policies import Transition, TrialStart
from metaloop.data.philox import Stream
from metaloop.errors import UserError


def test_values_move_towards_reward_and_best_value_after() -> None:
    agent, environment = QLearning(0.5, 0.8, 2.0, 0.0), TabularMDPs(3, 2, 4)
    memory = agent.start(TrialStart(environment, torch.arange(1), 1, None))
    first, second = torch.eye(3)[:1], torch.eye(3)[1:2]
    done, real = torch.tensor([False]), torch.tensor([True])
    for before, reward, after in ((first, 1.0, second), (second, 4.0, first), (first, 1.0, second)):
        memory = agent.learn(memory, Transition(before, torch.tensor([1]), torch.tensor([reward]), after, done, real))
    once = 2 + 0.5 * (1 + 0.8 * 2 - 2)
    back = 2 + 0.5 * (4 + 0.8 * max(2, once) - 2)
    assert memory.values[0, 1, 1].item() == pytest.approx(back)
    assert memory.values[0, 0, 1].item() == pytest.approx(once + 0.5 * (1 + 0.8 * max(2, back) - once))
    assert memory.values[0, 2].tolist() == [2.0, 2.0]


def test_an_end_before_the_horizon_has_no_value_after_it_and_the_horizon_has() -> None:
    agent, environment = QLearning(1.0, 0.8, 2.0, 0.0), TabularMDPs(3, 2, 2)
    memory = agent.start(TrialStart(environment, torch.arange(2), 1, None))
    state, zero = torch.eye(3)[:1].expand(2, -1), torch.zeros(2)
    actions, real = torch.zeros(2, dtype=torch.int64), torch.tensor([True, True])
    early = Transition(state, actions, zero, state, torch.tensor([True, False]), real)
    memory = agent.learn(memory, early)
    assert memory.values[:, 0, 0].tolist() == pytest.approx([0.0, 1.6])
    waiting = Transition(state, actions, zero, state, torch.tensor([True, True]), torch.tensor([False, True]))
    memory = agent.learn(memory, waiting)
    assert memory.values[:, 0, 0].tolist() == pytest.approx([0.0, 1.6])  # best value: that of the other action
    assert memory.time == 0


def test_a_replay_learns_again_from_the_last_that_was_seen() -> None:
    """Two states and one episode of two steps, after which values go on until they agree: v0 = 0.5 v1, v1 = 1 + 0.5 v0."""
    environment = TabularMDPs(2, 2, 2)
    agent = QLearning(1.0, 0.5, 0.0, 0.0, replays=30)
    memory = agent.start(TrialStart(environment, torch.arange(1), 1, None))
    states, action, real = torch.eye(2), torch.tensor([0]), torch.tensor([True])
    for before, after, reward, done in ((0, 1, 0.0, False), (1, 0, 1.0, True)):
        pair = states[before : before + 1], states[after : after + 1]
        step = Transition(pair[0], action, torch.tensor([reward]), pair[1], torch.tensor([done]), real)
        memory = agent.learn(memory, step)
    assert memory.values[0, :, 0].tolist() == pytest.approx([2 / 3, 4 / 3])
    assert memory.values[0, :, 1].tolist() == [0.0, 0.0]


def test_it_finds_the_goal_of_a_dark_room() -> None:
    returns = played(FAMILIES["dark_room"], QLearning(1.0, 0.9, 1.0, 0.0), 100, episodes=40).returns
    best = tasks_of(FAMILIES["dark_room"], 100).query.y[:, 0]
    assert returns[:, -5:].mean() > 0.8 * best.mean()
    assert returns[:, :2].mean() < 0.4 * best.mean()


@pytest.mark.parametrize("family", ["bernoulli", "tabular", "dark_room", "key_to_door"])
def test_observations_are_counted(family: str) -> None:
    environment = FAMILIES[family]
    rollouts = played(environment, Drawn(), 30, episodes=6)
    places = environment.place(rollouts.observations.flatten(0, 1))
    assert environment.places is not None
    assert 0 <= int(places.min()) <= int(places.max()) < environment.places
    different = {tuple(each) for each in rollouts.observations.flatten(0, 1).tolist()}
    assert len(different) == len(set(places.tolist()))


def test_observations_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(UserError, match=r"QLearning has a table .* take dataset=dark_room"):
        played(FAMILIES["square"], QLearning(1.0, 0.9, 1.0, 0.0), 2)
    with pytest.raises(UserError, match="observations that can be counted"):
        FAMILIES["square"].place(torch.zeros(1, 2))
    with pytest.raises(UserError, match="algorithm/agent=drawn"):
        played(FAMILIES["square"], Drawn(), 2)


@pytest.mark.parametrize(("name", "value"), [("rate", 0.0), ("discount", 1.0), ("epsilon", 1.5), ("replays", -1)])
def test_bad_settings_of_q_learning_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.agent\.{name}={value}"):
        QLearning(**({"rate": 1.0, "discount": 0.9, "initial": 1.0, "epsilon": 0.0} | {name: value}))


def test_drawn_policies_are_mixtures_of_a_dirichlet_vector_and_one_action() -> None:
    """The weight of the one action is uniform in 0, 0.1, ..., 1; moments of the probability of an action among three."""
    habits = Drawn().start(TrialStart(BernoulliBandits(3), torch.arange(20000), 1, None)).probabilities
    assert torch.allclose(habits.sum(1), torch.ones(20000))
    assert habits.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    # E (1-w)^2 = E w^2 = 0.35 and E w (1-w) = 0.15; of a flat Dirichlet vector E p^2 = 1/6, of one action 1/3; means are 1/3
    assert habits.square().mean().item() == pytest.approx(0.35 / 6 + 0.35 / 3 + 2 * 0.15 / 9, abs=0.01)
    rollouts = played(BernoulliBandits(3), Drawn(), 2000, episodes=40)
    assert ((rollouts.actions == rollouts.actions[0]).all(0).float().mean() > 0.09).item()  # weight 1, or nearly


def test_held_out_goals_lie_in_cells_of_their_own() -> None:
    room = DarkRoom(9, 20, held_out=16)
    cells = {split: {tuple(cell) for cell in room.goals(split).tolist()} for split in ("train", "validation", "test")}
    assert [len(cells[split]) for split in ("train", "validation", "test")] == [49, 16, 16]
    assert len(set.union(*cells.values())) == 81
    for split, allowed in cells.items():
        drawn = room.parameters(Stream(0, split), torch.arange(2000))["goal"]
        assert {tuple(goal) for goal in drawn.tolist()} == allowed
    everywhere = DarkRoom(9, 20)
    assert len(everywhere.goals("test")) == 81
    goals = world_of(tasks_of(everywhere, 3000)).parameters["goal"]
    assert len({tuple(goal) for goal in goals.tolist()}) == 81
    with pytest.raises(UserError, match=r"dataset\.environment\.held_out=41: .* at most 40"):
        DarkRoom(9, 20, held_out=41)
    with pytest.raises(UserError, match=r"dataset\.environment\.held_out=-1"):
        DarkRoom(9, 20, held_out=-1)
