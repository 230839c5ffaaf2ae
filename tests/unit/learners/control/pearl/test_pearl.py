"""PEARL: its losses and its posterior against hand-written definitions, its buffer, its state, and what it learns."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.environment import Environment, Environments
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.pendulum import Pendulum
from metaloop.control.rollouts import play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.learners.control.latent.posterior import Posterior
from metaloop.learners.control.pearl.context import ContextEncoder, Factors
from metaloop.learners.control.pearl.learner import PEARL
from metaloop.learners.control.pearl.soft_actor_critic import Batch, SoftActorCritic, SquashedActor
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.training.processes.ranks import launch
from metaloop.types import EpisodeSpec, Tasks
from small_runs import assert_goes_on, distance_of_parameters, trained_all

SETTINGS: dict[str, Any] = {
    "latent": 2, "hidden": [8], "encoder": [8], "next_observation": False, "explore": 1, "places": 6, "capacity": 60,
    "passes": 3, "context": 5, "batch": 7, "discount": 0.9, "follow": 0.1, "temperature": 0.2, "entropy": -1.0,
    "divergence_weight": 0.1, "reward_scale": 2.0, "largest": 0.1, "deterministic": True,
}  # fmt: skip
SMALL = (
    "name=small", "algorithm=pearl", "algorithm.hidden=[6]", "algorithm.encoder=[5]", "algorithm.passes=4",
    "algorithm.places=6", "algorithm.capacity=20", "algorithm.batch=8", "algorithm.context=6", "algorithm.largest=0.1",
    "dataset=point_navigation", "dataset.tasks=5", "dataset.environment.horizon=4", "model=cells", "episode=trial",
    "episode.queries=3", "outer.meta_batch=2", "trainer.max_steps=9", "validation.every=3", "validation.episodes=4",
    "evaluation.episodes=5", "evaluation.batch=4", "log_every=1",
)  # fmt: skip
NAVIGATION = PointNavigation(5, "square", 0.2)


def made(environment: Environment = NAVIGATION, **settings: Any) -> PEARL:
    torch.manual_seed(0)
    return PEARL(Cells(environment.input_shape, None), Regret(), environment.actions, **(SETTINGS | settings))


def tasks_of(environment: Environment, count: int, episodes: int, first: int = 0) -> Tasks:
    numbers = torch.arange(first, first + count)
    return Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "train")).tasks(numbers)


def test_the_posterior_is_the_product_of_the_factors_in_any_order() -> None:
    torch.manual_seed(0)
    encoder = ContextEncoder(4, 2, [8]).double()
    x = torch.randn(3, 6, 4).double()
    real = torch.ones(3, 6)
    real[1, 4:] = 0
    found = encoder.factors(x, real).posterior
    with torch.no_grad():
        mean, raw = encoder.net(x.flatten(0, 1)).view(3, 6, 4).chunk(2, -1)
    variance = torch.log1p(raw.exp()).numpy()
    for task, count in enumerate((6, 4, 6)):
        precision = (1 / variance[task, :count]).sum(0)  # closed form: precisions add up, means are weighted by them
        expected = (mean.numpy()[task, :count] / variance[task, :count]).sum(0) / precision
        assert np.allclose(found.mean[task].detach(), expected)
        assert np.allclose(found.log_variance[task].detach(), np.log(1 / precision))
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    again = encoder.factors(x[:, shuffled], real[:, shuffled]).posterior
    assert torch.allclose(again.mean, found.mean)


def test_without_a_context_the_posterior_is_the_prior() -> None:
    posterior = Factors.none(2, 3, torch.zeros(1)).posterior
    assert torch.equal(posterior.belief.mean, torch.zeros(2, 3))
    assert torch.equal(posterior.belief.deviation, torch.ones(2, 3))
    assert torch.equal(posterior.divergence(Posterior.prior(posterior.mean)), torch.zeros(2))


def test_the_density_of_squashed_actions_is_that_of_the_change_of_variables() -> None:
    torch.manual_seed(0)
    actor = SquashedActor(3, 2, [8]).double()
    x, uniform = torch.randn(50, 3).double(), torch.rand(50, 4)
    actions, density = actor.drawn(x, uniform)
    mean, log_deviation = actor.moments(x)
    expected = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_deviation.exp()), [torch.distributions.transforms.TanhTransform()]
    ).log_prob(actions)
    assert torch.allclose(density, expected.sum(-1), atol=1e-5)
    assert actions.abs().max() < 1


def test_the_losses_are_those_of_soft_actor_critic() -> None:
    torch.manual_seed(0)
    sac = SoftActorCritic(2, 1, 2, [6], temperature=0.3, entropy=-2.0, discount=0.9, follow=0.1).double()
    for parameter in sac.targets.parameters():
        parameter.add_(0.1)
    s, a, r, after = (torch.rand(3, 4, n).double() * 2 - 1 for n in (2, 2, 1, 2))
    ended = torch.tensor([[0.0, 1.0, 0.0, 0.0]] * 3).double()
    z = torch.randn(3, 4, 1).double()
    u = torch.rand(3, 4, 4), torch.rand(3, 4, 4)
    losses = sac.losses(Batch(s, a, r[..., 0], after, ended), z, u)
    with torch.no_grad():
        for task in range(3):
            critics, actor, temperature = [], [], []
            for i in range(4):
                new, log_new = sac.actor.drawn(torch.cat([after[task, i], z[task, i]])[None], u[1][task, i][None])
                row = torch.cat([after[task, i], z[task, i], new[0]])[None]
                soft = min(float(net(row)) for net in sac.targets.nets) - 0.3 * float(log_new)
                aim = float(r[task, i]) + 0.9 * (1 - float(ended[task, i])) * soft
                row = torch.cat([s[task, i], z[task, i], a[task, i]])[None]
                critics.append(sum((float(net(row)) - aim) ** 2 for net in sac.critics.nets))
                act, log = sac.actor.drawn(torch.cat([s[task, i], z[task, i]])[None], u[0][task, i][None])
                row = torch.cat([s[task, i], z[task, i], act[0]])[None]
                actor.append(0.3 * float(log) - min(float(net(row)) for net in sac.critics.nets))
                temperature.append(-math.log(0.3) * (float(log) - 2.0))
            assert float(losses["critics"][task]) == pytest.approx(np.mean(critics), rel=1e-6)
            assert float(losses["actor"][task]) == pytest.approx(np.mean(actor), rel=1e-6)
            assert float(losses["temperature"][task]) == pytest.approx(np.mean(temperature), rel=1e-6)


def gradients(loss: Tensor, learner: PEARL) -> dict[str, bool]:
    """Which parts a loss has a gradient in."""
    parts = {"encoder": learner.encoder, "actor": learner.sac.actor, "critics": learner.sac.critics}
    named = [(name, p) for name, part in parts.items() for p in part.parameters()] + [
        ("temperature", learner.sac.log_temperature)
    ]
    values = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True)
    moved = {name for (name, _), value in zip(named, values, strict=True) if value is not None and value.abs().sum() > 0}
    return {name: name in moved for name in (*parts, "temperature")}


def test_each_loss_moves_its_own_networks_and_that_of_the_critics_the_encoder_too() -> None:
    learner = made()
    learner.meta_loss(tasks_of(NAVIGATION, 4, 3))
    place = learner.replay.chosen(torch.rand(4))
    context = learner.replay.context(place, torch.rand(4, 5))
    z = learner.encoder.factors(learner._read(context), torch.ones(4, 5)).posterior.mean[:, None].expand(-1, 7, -1)
    batch = learner.replay.batch(place, torch.rand(4, 7))
    losses = learner.sac.losses(batch, z, (torch.rand(4, 7, 4), torch.rand(4, 7, 4)))
    moved = {name: gradients(loss.sum(), learner) for name, loss in losses.items()}
    nothing = dict.fromkeys(("encoder", "actor", "critics", "temperature"), False)
    assert moved["critics"] == nothing | {"critics": True, "encoder": True}
    assert moved["actor"] == nothing | {"actor": True}
    assert moved["temperature"] == nothing | {"temperature": True}


def test_the_gradient_of_the_critics_loss_and_the_divergence_is_that_of_finite_differences() -> None:
    learner = made(entropy=None)
    learner.meta_loss(tasks_of(NAVIGATION, 4, 3))
    learner.double()
    numbers = numbers_of(tasks_of(NAVIGATION, 4, 3).support)
    parameters = list(learner.encoder.parameters())
    found = torch.autograd.grad(learner.losses(numbers).sum(), parameters)
    torch.manual_seed(1)
    direction = [torch.randn_like(p) for p in parameters]
    expected = sum(float((g * d).sum()) for g, d in zip(found, direction, strict=True))

    def moved(step: float) -> float:
        """The part of the loss that moves the encoder: actor and targets read draws that are held."""
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
            value = _encoder_part(learner, numbers, held)
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=step)
        return value

    with torch.no_grad():
        held = _drawn(learner, numbers)[1]
    assert (moved(1e-6) - moved(-1e-6)) / 2e-6 == pytest.approx(expected, rel=1e-5)


def _drawn(learner: PEARL, numbers: Tensor) -> tuple[Posterior, Tensor, Tensor]:
    place = learner.replay.chosen(learner._uniform(numbers, 1, "task")[:, 0])
    context = learner.replay.context(place, learner._uniform(numbers, 5, "context"))
    posterior = learner.encoder.factors(learner._read(context), torch.ones(4, 5)).posterior
    return posterior, posterior.drawn(learner._uniform(numbers, 4, "posterior")), place


def _encoder_part(learner: PEARL, numbers: Tensor, held: Tensor) -> float:
    posterior, z, place = _drawn(learner, numbers)
    sac, batch = learner.sac, learner.replay.batch(place, learner._uniform(numbers, 7, "batch"))
    constant, z = (each[:, None].expand(-1, 7, -1) for each in (held, z))
    after = torch.cat([batch.after, constant], -1)
    new, log_new = sac.actor.drawn(after, learner._uniform(numbers, 28, "actions 1").view(4, 7, 4))
    soft = sac.targets(torch.cat([after, new], -1)).amin(0) - 0.2 * log_new
    aim = 2.0 * batch.rewards + 0.9 * (1 - batch.ended) * soft
    error = (sac.critics(torch.cat([batch.observations, z, batch.actions], -1)) - aim) ** 2
    variance = posterior.log_variance.exp()
    divergence = 0.5 * (variance + posterior.mean**2 - 1 - variance.log()).sum(-1)
    return float((error.sum(0).mean(1) + 0.1 * divergence).sum())


def test_the_buffer_keeps_the_latest_transitions_of_each_task() -> None:
    environment = PointNavigation(4, "half_circle", 0.2)
    learner = made(environment, places=3, capacity=10)
    support = tasks_of(environment, 2, 2).support
    world, replay = world_of(support), learner.replay
    rollouts = play(world, numbers_of(support), learner._policy(deterministic=False))
    replay.add(torch.tensor([1, 5]), rollouts, 0.1)
    assert replay.task.tolist() == [-1, 1, 5]
    assert replay.size.tolist() == [0, 8, 8]
    row = torch.cat([rollouts.observations[3, 0], rollouts.actions[3, 0] / 0.1, rollouts.rewards[3, :1]])
    assert torch.equal(replay.transitions[1, 3, :5], row)
    assert replay.transitions[1, :8, -1].sum() == 0  # episodes that end by their length alone do not end for the critics
    replay.add(torch.tensor([1, 5]), rollouts, 0.1)
    assert replay.size.tolist() == [0, 10, 10]
    assert torch.equal(replay.transitions[1, 1, :5], row)  # step 3 of the second trial is the twelfth
    last = replay.context(torch.tensor([1]), torch.arange(8)[None] / 8).rewards[0]
    assert torch.allclose(last.flip(0), rollouts.rewards[:, 0])
    replay.add(torch.tensor([4, 5]), rollouts, 0.1)  # task 4 takes the place of task 1
    assert replay.task.tolist() == [-1, 4, 5]
    assert replay.size.tolist() == [0, 8, 10]
    assert set(replay.chosen(torch.rand(99)).tolist()) == {1, 2}
    with pytest.raises(UserError, match=r"algorithm\.capacity=7: a trial has up to 8 steps"):
        made(environment, capacity=7).meta_loss(tasks_of(environment, 2, 2))


def test_an_episode_that_ends_early_ends_for_the_critics_and_what_follows_is_not_kept() -> None:
    learner = made()
    support = tasks_of(NAVIGATION, 1, 2).support
    with torch.no_grad():
        rollouts = play(world_of(support), numbers_of(support), learner._policy(deterministic=False))
    real, done = torch.ones(10, 1, dtype=torch.bool), torch.zeros(10, 1, dtype=torch.bool)
    real[3:5], done[2:5], done[9] = False, True, True  # the first of two episodes of 5 steps ends after its third
    learner.replay.add(torch.tensor([0]), replace(rollouts, real=real, done=done), 0.1)
    assert int(learner.replay.size[0]) == 8
    assert learner.replay.transitions[0, :8, -1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    kept = torch.cat([rollouts.rewards[:3, 0], rollouts.rewards[5:, 0]])
    assert torch.equal(learner.replay.transitions[0, :8, 4], kept)


def test_a_data_set_with_few_tasks_gives_them_again_with_new_noise() -> None:
    few, every = Environments(Pendulum(5, (8, 12), 1.0, 1.0), tasks=3), Environments(Pendulum(5, (8, 12), 1.0, 1.0))
    worlds = [world_of(tasks_of(each.split("train"), 7, 2).support) for each in (few, every)]
    gravity = worlds[0].parameters["gravity"]
    assert torch.equal(gravity[:3], worlds[1].parameters["gravity"][:3])
    assert torch.equal(gravity[3:6], gravity[:3])
    assert worlds[0].number is not None
    assert worlds[0].number.tolist() == [0, 1, 2, 0, 1, 2, 0]
    numbers = numbers_of(tasks_of(few.split("train"), 7, 2).support)
    assert len(numbers.unique()) == 7
    assert few.split("test").tasks is None
    with pytest.raises(UserError, match=r"dataset\.tasks=0: at least 1"):
        Environments(NAVIGATION, tasks=0)


def test_targets_follow_the_critics_after_each_step_and_trials_are_played_in_the_first_pass_alone() -> None:
    learner = made()
    adam = torch.optim.Adam(learner.parameters(), lr=0.01)
    written = []
    for learner.outer_step in range(4):
        target = next(learner.sac.targets.parameters()).clone()
        critic = next(learner.sac.critics.parameters()).clone()
        adam.zero_grad()
        learner.meta_loss(tasks_of(NAVIGATION, 4, 3, 4 * (learner.outer_step // 3))).loss.backward()
        adam.step()
        expected = target + 0.1 * (critic - target) if learner.outer_step else target
        assert torch.allclose(next(learner.sac.targets.parameters()), expected)
        written.append(int(learner.replay.written.sum()))
    assert written[0] == written[1] == written[2] > 0
    assert written[3] > written[2]
    assert all(parameter.grad is None for parameter in learner.sac.targets.parameters())


def test_the_belief_is_that_of_all_transitions_so_far() -> None:
    learner = made(next_observation=True)
    support = tasks_of(NAVIGATION, 5, 3).support
    with torch.no_grad():
        rollouts = play(world_of(support), numbers_of(support), learner.policy())
    parts = [rollouts.observations, rollouts.actions / 0.1, rollouts.rewards[..., None], rollouts.after]
    with torch.no_grad():
        expected = learner.encoder.factors(torch.cat(parts, -1).transpose(0, 1), rollouts.real.T).posterior.belief
    found = learner.policy().belief(rollouts.memory)
    assert torch.allclose(found.mean, expected.mean, atol=1e-5)
    assert torch.allclose(found.deviation, expected.deviation, atol=1e-5)


def learned(steps: int) -> Tensor:
    """Mean returns of the four episodes of test trials after some meta-training on 2-D navigation."""
    environment = Environments(PointNavigation(12, "square", 0.2), tasks=100)
    train, test = environment.split("train"), environment.split("test")
    learner = made(
        train, latent=4, hidden=[64, 64], encoder=[64, 64], places=100, capacity=400, passes=10, context=64, batch=128,
        follow=0.02, reward_scale=10.0, temperature=0.5, entropy=0.0, discount=0.9,
    )  # fmt: skip
    adam = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=0.003)
    for learner.outer_step in range(steps):
        adam.zero_grad()
        learner.meta_loss(tasks_of(train, 16, 3, 16 * (learner.outer_step // 10))).loss.backward()
        adam.step()
    support = Episodes(test, EpisodeSpec(1, 1, 4), Stream(0, "test")).tasks(torch.arange(200)).support
    with torch.no_grad():
        return play(world_of(support), numbers_of(support), learner.policy()).returns.mean(0)


def test_it_beats_its_own_prior_on_navigation() -> None:
    first, *_, last = learned(300).tolist()
    assert last > first + 0.4


@pytest.mark.slow
def test_it_beats_its_own_prior_by_more_after_longer_training() -> None:
    first, *_, last = learned(750).tolist()
    assert last > first + 0.6


def test_a_run_that_was_interrupted_ends_bit_equal(tmp_path: Path) -> None:
    """The second run goes on from step 3, in the middle of the passes over a meta-batch."""
    assert_goes_on(tmp_path, SMALL, after=3)


def test_two_ranks_reach_one_ranks_parameters_and_buffer(tmp_path: Path) -> None:
    trained_all(str(tmp_path / "one"), {"run": []}, SMALL)
    launch(trained_all, 2, str(tmp_path / "two"), {"run": ["trainer=ddp_cpu", "trainer.max_steps=9"]}, SMALL)
    assert distance_of_parameters(tmp_path / "one" / "run", tmp_path / "two" / "run") < 1e-5


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("latent", 0),
        ("hidden", []),
        ("encoder", [0]),
        ("explore", 0),
        ("places", 0),
        ("capacity", 0),
        ("passes", 0),
        ("context", 0),
        ("batch", 0),
        ("discount", 1.5),
        ("follow", 0),
        ("temperature", 0),
        ("divergence_weight", -1),
        ("reward_scale", 0),
        ("largest", 0),
    ],
)
def test_bad_settings_are_refused_by_their_key(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.{setting}="):
        made(**{setting: value})


def test_discrete_actions_and_networks_that_learn_are_refused() -> None:
    with pytest.raises(UserError, match="take algorithm=varibad or rl2"):
        made(BernoulliBandits(3))
    with pytest.raises(UserError, match="take model=cells"):
        PEARL(MLP((2,), None, hidden=[4]), Regret(), NAVIGATION.actions, **SETTINGS)
    with pytest.raises(UserError, match="1 numbers, but this policy was made for actions of 2 numbers"):
        made().meta_loss(tasks_of(Pendulum(5, 10.0, 1.0, 1.0), 2, 2))
