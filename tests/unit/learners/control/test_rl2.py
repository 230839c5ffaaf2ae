"""RL²: its gradient, its state between outer steps, and what it learns."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from metaloop.control.agents.bandits import UCB1
from metaloop.control.agents.simple import Random, Told
from metaloop.control.agents.tabular import BEB
from metaloop.control.attention import CausalTransformer
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.grids import KeyToDoor
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.memories import GRU, TrialMemory
from metaloop.control.rollouts import play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.learners.control.advantages import generalized_advantages
from metaloop.learners.control.playing import world_of
from metaloop.learners.control.rl2 import RL2
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.types import EpisodeSpec, Tasks
from small_runs import assert_goes_on, trained

SETTINGS: dict[str, Any] = {
    "discount": 1.0, "trace": 0.9, "clip": 0.2, "value_weight": 0.5, "entropy": 0.01, "renew": 1,
    "shortest": None, "growing": 0,
}  # fmt: skip
SMALL_RL2 = (
    "name=small", "algorithm=rl2", "algorithm.memory.hidden=6", "dataset=bernoulli_bandits", "model=cells", "episode=trial",
    "episode.queries=3", "outer.meta_batch=4", "trainer.max_steps=6", "validation.every=2", "validation.episodes=4",
    "evaluation.episodes=6", "log_every=1", "algorithm.renew=4",
)  # fmt: skip


def made(environment: Environment, hidden: int = 8, **settings: Any) -> RL2:
    torch.manual_seed(0)
    model = Cells(environment.input_shape, None)
    return RL2(model, Regret(), environment.actions, partial(GRU, hidden=hidden), **(SETTINGS | settings))


def tasks_of(environment: Environment, count: int, episodes: int, first: int = 0) -> Tasks:
    numbers = torch.arange(first, first + count)
    return Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "train")).tasks(numbers)


@pytest.mark.parametrize("memory", [partial(GRU, hidden=8), partial(CausalTransformer, hidden=8, layers=2, heads=2)])
@pytest.mark.parametrize(
    "environment",
    [BernoulliBandits(3), TabularMDPs(3, 2, 4), KeyToDoor(3, 6), PointNavigation(5, "square", 0.2)],
    ids=lambda e: e.title,
)
@pytest.mark.parametrize("whole", [False, True], ids=["", "whole transitions"])
def test_reading_a_trial_at_once_gives_the_numbers_of_acting(
    environment: Environment, memory: Callable[..., TrialMemory], whole: bool
) -> None:
    torch.manual_seed(0)
    settings = SETTINGS | {"whole_transitions": whole}
    learner = RL2(Cells(environment.input_shape, None), Regret(), environment.actions, memory, **settings)
    nn.init.normal_(learner.network.preferences.weight)
    support = tasks_of(environment, 20, 3).support
    assert support.number is not None
    policy = learner.policy()
    rollouts = play(world_of(support), support.number, policy)
    outputs, _ = policy.reread(rollouts)
    taken = policy.distribution.log_probability(outputs, rollouts.actions)
    assert torch.allclose(taken, torch.stack(rollouts.memory.log_probabilities), atol=1e-6)


class Everything(TrialMemory):
    """A memory that returns what it reads."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.features = inputs

    def start(self, tasks: int, like: torch.Tensor) -> None:
        return None

    def step(self, x: torch.Tensor, state: None) -> tuple[torch.Tensor, None]:
        return x, None

    def sequence(self, x: torch.Tensor) -> torch.Tensor:
        self.read = x
        return x


def test_a_whole_transition_has_the_observation_before_its_step() -> None:
    environment = TabularMDPs(3, 2, 4)
    settings = SETTINGS | {"whole_transitions": True}
    learner = RL2(Cells(environment.input_shape, None), Regret(), environment.actions, Everything, **settings)
    support = tasks_of(environment, 5, 2).support
    assert support.number is not None
    rollouts = play(world_of(support), support.number, learner.policy())
    learner.policy().reread(rollouts)
    assert isinstance(learner.network.memory, Everything)
    read = learner.network.memory.read
    assert torch.equal(read[..., :3], rollouts.observations)
    assert torch.equal(read[1:, :, -3:], rollouts.observations[:-1])
    assert not read[0, :, 3:].any()


def test_advantages_are_sums_of_discounted_errors() -> None:
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 5, 3).double().unbind()
    following = torch.cat([values[1:], torch.zeros(1, 3)])
    errors = rewards + 0.9 * following - values
    real = torch.ones_like(rewards, dtype=torch.bool)
    for step in range(5):
        expected = sum((0.9 * 0.7) ** (later - step) * errors[later] for later in range(step, 5))
        assert torch.allclose(generalized_advantages(rewards, values, real, 0.9, 0.7)[step], expected)
    returns = torch.stack([rewards[step:].sum(0) for step in range(5)])
    assert torch.allclose(generalized_advantages(rewards, values, real, 1.0, 1.0), returns - values)


def test_advantages_pass_over_steps_in_which_a_task_waits() -> None:
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 6, 1).double().unbind()
    real = torch.tensor([True, True, False, False, True, True])[:, None]
    found = generalized_advantages(rewards * real, values, real, 0.9, 0.7)
    kept = real[:, 0]
    expected = generalized_advantages(rewards[kept], values[kept], real[kept], 0.9, 0.7)
    assert torch.allclose(found[kept], expected)


def test_the_gradient_is_that_of_the_expected_total_reward() -> None:
    """Two arms, two pulls: the score of all histories, by enumeration in float64, against the mean over many trials."""
    environment = BernoulliBandits(2)
    learner = made(environment, hidden=3, value_weight=0.0, entropy=0.0, trace=1.0).double()
    with torch.no_grad():
        for parameter in (*learner.network.memory.parameters(), *learner.network.preferences.parameters()):
            parameter.normal_()
    tasks = tasks_of(environment, 40000, 2).map(lambda t: t.double() if t.is_floating_point() else t)
    means = world_of(tasks.support).parameters["means"]
    means[:, 0] = means[:, 0].round() * 0.9 + 0.05  # one arm nearly always pays and the other hardly ever, for a large gradient
    means[:, 1] = 1 - means[:, 0]
    loss = learner.meta_loss(tasks).loss * 2  # the loss is a mean over steps
    (found,) = torch.autograd.grad(loss, learner.network.preferences.weight)
    (expected,) = torch.autograd.grad(-_expected_total(learner, means), learner.network.preferences.weight)
    assert (found - expected).norm() < 0.05 * expected.norm()


def _expected_total(learner: RL2, means: torch.Tensor) -> torch.Tensor:
    """Expected total reward of two pulls, averaged over the tasks."""
    network, total = learner.network, torch.zeros(()).double()
    x = torch.zeros(1, 1 + 6).double()
    features, state = network.memory.step(x, network.memory.start(1, x))
    first = network.preferences(features)[0].softmax(-1)
    for arm in range(2):
        for reward in (0.0, 1.0):
            chance = means[:, arm] if reward else 1 - means[:, arm]
            one_hot = nn.functional.one_hot(torch.tensor([arm]), 2).double()
            seen = torch.tensor([[reward, 1.0]]).double()  # the pull ended an episode
            x = torch.cat([torch.zeros(1, 1).double(), one_hot, one_hot * reward, seen], -1)
            second = network.preferences(network.memory.step(x, state)[0])[0].softmax(-1)
            total = total + first[arm] * (chance * (reward + means @ second)).mean()
    return total


def test_the_policy_that_plays_is_renewed_every_few_steps() -> None:
    learner = made(BernoulliBandits(3), renew=3)
    sgd = torch.optim.SGD(learner.parameters(), lr=0.5)
    kept = []
    for learner.outer_step in range(5):
        sgd.zero_grad()
        learner.meta_loss(tasks_of(BernoulliBandits(3), 8, 4, 8 * learner.outer_step)).loss.backward()
        sgd.step()
        kept.append(next(learner.played_by[1].parameters()).clone())
    assert torch.equal(kept[0], kept[2])
    assert not torch.equal(kept[2], kept[3])
    assert torch.equal(kept[3], kept[4])
    assert all(parameter.grad is None for parameter in learner.played_by.parameters())


def test_two_halves_of_a_meta_batch_have_the_mean_gradient_of_the_whole() -> None:
    learner = made(TabularMDPs(3, 2, 4))

    def gradient(first: int, count: int) -> torch.Tensor:
        learner.zero_grad()
        learner.meta_loss(tasks_of(TabularMDPs(3, 2, 4), count, 2, first)).loss.backward()
        return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])

    assert torch.allclose((gradient(0, 6) + gradient(6, 6)) / 2, gradient(0, 12), atol=1e-6)


def test_a_few_steps_learn_that_one_arm_of_two_pays() -> None:
    """The policy must learn to stay where it was paid."""
    environment = BernoulliBandits(2)
    learner = made(environment, hidden=16, entropy=0.0)
    adam = torch.optim.Adam(learner.parameters(), lr=0.02)
    returns = []
    for learner.outer_step in range(60):
        adam.zero_grad()
        result = learner.meta_loss(tasks_of(environment, 128, 8, 128 * learner.outer_step))
        result.loss.backward()
        adam.step()
        returns.append(result.query_logits.sum(1).mean())
    assert torch.stack(returns[-5:]).mean() > torch.stack(returns[:5]).mean() + 0.5


def test_a_run_that_was_interrupted_ends_bit_equal(tmp_path: Path) -> None:
    """The policy that plays was renewed at step 4 and is not at step 2, from which the second run goes on."""
    assert_goes_on(tmp_path, SMALL_RL2, after=2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("discount", 0.0),
        ("trace", 1.1),
        ("clip", 0),
        ("renew", 0),
        ("entropy", -1),
        ("value_weight", -1),
        ("shortest", 0),
        ("growing", -1),
        ("last_entropy", -1),
        ("deviation", 0.0),
    ],
)
def test_bad_settings_are_refused_by_their_key(setting: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.{setting}={value}"):
        made(BernoulliBandits(3), **{setting: value})


def test_what_it_cannot_act_in_is_refused() -> None:
    with pytest.raises(UserError, match="4 actions, but this policy was made for 3"):
        made(BernoulliBandits(3)).meta_loss(tasks_of(BernoulliBandits(4), 2, 2))


def test_learners_and_tasks_of_other_kinds_are_refused_before_training(tmp_path: Path) -> None:
    others = ("model=cells", "episode=trial", "name=small")
    with pytest.raises(UserError, match="environments, in which this learner cannot act; take algorithm=agent"):
        trained(
            tmp_path / "one", "dataset=bernoulli_bandits", "algorithm=maml", "model=mlp", "episode=trial", small=["name=small"]
        )
    with pytest.raises(UserError, match="acts in environments, but the data set's tasks are of regression"):
        trained(tmp_path / "two", "dataset=sinusoid", "algorithm=rl2", *others, small=())


def test_an_embedding_that_learns_is_trained_too() -> None:
    environment = TabularMDPs(3, 2, 4)
    model = MLP(environment.input_shape, None, hidden=[4])
    learner = RL2(model, Regret(), environment.actions, partial(GRU, hidden=4), **SETTINGS)
    learner.meta_loss(tasks_of(environment, 8, 2)).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_training_trials_grow_by_the_same_factor_to_whole_ones() -> None:
    learner, lengths = made(BernoulliBandits(2), shortest=2, growing=3), []
    for learner.outer_step in range(5):
        result = learner.meta_loss(tasks_of(BernoulliBandits(2), 400, 16))
        assert result.query_logits.shape == (400, 16)
        lengths.append(learner.episodes(16))
        earned = result.query_logits.sum(0) > 0
        assert earned.tolist() == [True] * lengths[-1] + [False] * (16 - lengths[-1])
    assert lengths == [2, 4, 8, 16, 16]
    assert made(BernoulliBandits(2), shortest=32, growing=3).episodes(16) == 16


def test_the_reward_for_exploring_moves_by_equal_steps_while_trials_grow() -> None:
    learner, weights = made(BernoulliBandits(2), shortest=2, growing=4, entropy=0.2, last_entropy=0.04), []
    for learner.outer_step in range(6):
        weights.append(learner.entropy_weight)
    assert weights == pytest.approx([0.2, 0.16, 0.12, 0.08, 0.04, 0.04])
    assert made(BernoulliBandits(2), entropy=0.2).entropy_weight == pytest.approx(0.2)
    assert made(BernoulliBandits(2), entropy=0.2, last_entropy=0.1).entropy_weight == pytest.approx(0.1)
    tasks = tasks_of(BernoulliBandits(2), 8, 4)
    few, many = (made(BernoulliBandits(2), entropy=0.0, last_entropy=each).meta_loss(tasks).loss for each in (0.0, 0.5))
    assert (few - many).item() == pytest.approx(0.5 * 0.693, abs=0.01)  # a uniform policy has an entropy of log 2


def test_the_first_steps_imitate_and_later_ones_do_not() -> None:
    """Cross-entropy of the agent's actions and errors of mean rewards to come, written out step by step."""
    environment = TabularMDPs(3, 2, 4)
    learner = made(environment, agent=BEB(0.5), imitated=1)
    tasks = tasks_of(environment, 5, 2)
    learner.outer_step = 0
    result = learner.meta_loss(tasks)
    assert tasks.support.number is not None
    history = play(world_of(tasks.support), tasks.support.number, BEB(0.5))
    outputs, means = learner.policy().reread(history)
    assert means is not None
    outputs, means, expected = outputs.detach(), means.detach(), 0.0
    for step in range(8):
        for task in range(5):
            cross_entropy = -outputs[step, task, history.actions[step, task]]
            ahead = history.rewards[step:, task].mean()
            expected += float(cross_entropy + SETTINGS["value_weight"] * (means[step, task] - ahead) ** 2) / 40
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(result.query_logits, history.returns)
    learner.outer_step = 1
    assert torch.equal(learner.meta_loss(tasks).loss, made(environment).meta_loss(tasks).loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"imitated": 5}, "nobody to imitate; take algorithm/agent"),
        ({"imitated": -1, "agent": BEB(0.5)}, "algorithm.imitated=-1: at least 0"),
        ({"imitated": 5, "agent": Told()}, "give the best ones away"),
    ],
    ids=["nobody", "negative", "told"],
)
def test_agents_that_cannot_be_imitated_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(TabularMDPs(3, 2, 4), **settings)


def test_imitation_of_a_bandit_agent_is_learned() -> None:
    environment = BernoulliBandits(3)
    learner = made(environment, agent=UCB1(0.2), imitated=150)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.02)
    for step in range(150):
        learner.outer_step = step
        loss = learner.meta_loss(tasks_of(environment, 64, 8, first=64 * step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tasks = tasks_of(environment, 2000, 8, first=10**6)
    assert tasks.support.number is not None
    reward, agent, chance = (
        play(world_of(tasks.support), tasks.support.number, policy).returns.sum(1).mean()
        for policy in (learner.policy(), UCB1(0.2), Random())
    )
    assert reward - chance > 0.5 * (agent - chance)
