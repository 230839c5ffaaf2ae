"""VariBAD: its lower bound against hand-written definitions, what reaches what, its state, and what it learns."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metaloop.control.attention import CausalTransformer
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.grids import DarkRoom, KeyToDoor
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.memories import GRU
from metaloop.control.noise import TrialNoise, normal
from metaloop.control.rollouts import Rollouts, play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.learners.control.latent.decoder import divergences, strata
from metaloop.learners.control.latent.likelihoods import BernoulliOutcome, FixedNormal
from metaloop.learners.control.latent.posterior import Posterior
from metaloop.learners.control.latent.varibad import VariBAD
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.training.processes.ranks import launch
from metaloop.types import EpisodeSpec, Tasks
from small_runs import assert_goes_on, distance_of_parameters, trained_all

SETTINGS: dict[str, Any] = {
    "latent": 3, "hidden": [8], "decoder": [6, 5], "transitions": 0.5, "bound_weight": 1.0, "divergence_weight": 0.1,
    "prefixes": None, "decoded": None, "discount": 1.0, "trace": 0.9, "clip": 0.2, "value_weight": 0.5, "entropy": 0.01,
    "renew": 1,
}  # fmt: skip
SMALL = (
    "name=small", "algorithm=varibad", "algorithm.memory.hidden=6", "algorithm.prefixes=3", "algorithm.decoded=2",
    "dataset=tabular_mdps", "dataset.environment.states=3", "dataset.environment.horizon=3", "model=mlp", "model.hidden=[5]",
    "episode=trial", "episode.queries=2", "outer.meta_batch=4", "trainer.max_steps=6", "validation.every=2",
    "validation.episodes=4", "evaluation.episodes=6", "evaluation.batch=4", "log_every=1", "algorithm.renew=4",
)  # fmt: skip


def made(environment: Environment, **settings: Any) -> VariBAD:
    torch.manual_seed(0)
    model = settings.pop("model", None) or Cells(environment.input_shape, None)
    likelihood = settings.pop("likelihood", FixedNormal(0.7))
    memory = settings.pop("memory", partial(GRU, hidden=8))
    return VariBAD(model, Regret(), environment.actions, memory, likelihood, **(SETTINGS | settings))


def tasks_of(environment: Environment, count: int, episodes: int, first: int = 0) -> Tasks:
    numbers = torch.arange(first, first + count)
    return Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "train")).tasks(numbers)


def played(learner: VariBAD, environment: Environment, count: int, episodes: int) -> tuple[Rollouts, Tensor]:
    support = tasks_of(environment, count, episodes).support
    with torch.no_grad():
        return play(world_of(support), numbers_of(support), learner.policy()), numbers_of(support)


def in_double(learner: VariBAD, rollouts: Rollouts) -> Rollouts:
    """The learner and its trials in float64."""
    learner.double()
    return replace(rollouts, **{name: getattr(rollouts, name).double() for name in ("observations", "rewards", "after")})


def test_the_divergence_is_that_of_normal_distributions() -> None:
    torch.manual_seed(0)
    one, other = (Posterior(*torch.randn(2, 5, 3).double().unbind()) for _ in range(2))
    each = [torch.distributions.Normal(p.mean, (p.log_variance / 2).exp()) for p in (one, other)]
    expected = torch.distributions.kl_divergence(*each).sum(-1)
    assert torch.allclose(one.divergence(other), expected)


def test_each_posterior_is_compared_with_the_one_before_and_the_first_with_the_prior() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 4, 2, 3).double().unbind()
    found = divergences(Posterior(mean, log_variance))
    for step in range(4):
        m, v = mean[step].numpy(), np.exp(log_variance[step].numpy())
        m0, v0 = (mean[step - 1].numpy(), np.exp(log_variance[step - 1].numpy())) if step else (0.0, 1.0)
        expected = 0.5 * (np.log(v0 / v) + v / v0 + (m - m0) ** 2 / v0 - 1).sum(-1)
        assert np.allclose(found[step].numpy(), expected)


@pytest.mark.parametrize("likelihood", [FixedNormal(0.7), BernoulliOutcome()])
def test_the_lower_bound_is_that_of_the_paper(likelihood: FixedNormal | BernoulliOutcome) -> None:
    """Every prefix decodes every step of the trial, past and future; episodes of KeyToDoor end at different times."""
    environment = KeyToDoor(2, 5)
    learner = made(environment, likelihood=likelihood)
    rollouts, numbers = played(learner, environment, 20, 2)
    rollouts = in_double(learner, rollouts)
    assert not rollouts.real.all()
    found = learner.bounds(rollouts, numbers)
    assert np.allclose(found.detach().numpy(), bounds_by_hand(learner, rollouts, numbers))


def bounds_by_hand(learner: VariBAD, rollouts: Rollouts, numbers: Tensor) -> list[float]:
    """The mean over t of E_q_t[sum_i log p(step i | m)] - 0.1 KL(q_t || q_{t-1}), a step; by loops."""
    network, likelihood = learner.network, learner.network.decoder.rewards
    with torch.no_grad():
        posteriors = network.encoder.posteriors(rollouts)
        kl = divergences(posteriors).numpy()
    noise = TrialNoise(numbers, 6, "posteriors")
    weights = {name: value.detach().numpy() for name, value in network.decoder.named_parameters()}

    def net(name: str, m: np.ndarray, x: np.ndarray) -> np.ndarray:
        hidden = (
            weights[f"{name}.of_latent.weight"] @ m + weights[f"{name}.of_latent.bias"] + weights[f"{name}.of_step.weight"] @ x
        )
        for layer in range(2):
            hidden = weights[f"{name}.layers.{layer}.weight"] @ np.maximum(hidden, 0) + weights[f"{name}.layers.{layer}.bias"]
        return np.asarray(hidden)

    def normal_density(value: Any, mean: Any, deviation: float) -> float:
        z = (np.asarray(value) - mean) / deviation
        return float((-0.5 * z**2 - math.log(deviation * math.sqrt(2 * math.pi))).sum())

    steps, tasks = rollouts.rewards.shape
    totals = np.zeros(tasks)
    for t in range(steps + 1):
        u = noise.next()
        eps = normal(u[:, :3], u[:, 3:]).double().numpy()
        for task in range(tasks):
            m = posteriors.mean[t, task].numpy() + np.exp(posteriors.log_variance[t, task].numpy() / 2) * eps[task]
            for i in range(steps):
                if not rollouts.real[i, task]:
                    continue
                s, after = rollouts.observations[i, task].numpy(), rollouts.after[i, task].numpy()
                a, r = np.eye(5)[rollouts.actions[i, task]], float(rollouts.rewards[i, task])
                out = net("of_reward", m, np.concatenate([s, a, after]))[0]
                if isinstance(likelihood, FixedNormal):
                    totals[task] += normal_density(r, out, 0.7)
                else:
                    totals[task] += math.log(1 / (1 + math.exp(-out if r > 0 else out)))
                totals[task] += normal_density(after, net("of_transition", m, np.concatenate([s, a])), 0.5)
            totals[task] -= 0.1 * kl[t, task]
    return [float(total) / (steps + 1) / steps for total in totals]


def test_the_gradient_of_the_bound_is_that_of_finite_differences() -> None:
    environment = TabularMDPs(3, 2, 2)
    learner = made(environment)
    rollouts, numbers = played(learner, environment, 5, 2)
    rollouts = in_double(learner, rollouts)
    parameters = [*learner.network.encoder.parameters(), *learner.network.decoder.parameters()]
    gradients = torch.autograd.grad(learner.bounds(rollouts, numbers).sum(), parameters)
    torch.manual_seed(1)
    direction = [torch.randn_like(p) for p in parameters]
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
            values.append(float(learner.bounds(rollouts, numbers).sum()))
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=step)
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-6)


def test_a_draw_of_prefixes_and_steps_estimates_the_whole_bound_without_bias() -> None:
    environment = TabularMDPs(3, 2, 2)
    learner = made(environment)
    rollouts, numbers = played(learner, environment, 4000, 2)
    whole = learner.bounds(rollouts, numbers).mean()
    learner.prefixes, learner.decoded = 2, 3
    part = learner.bounds(rollouts, numbers)
    assert abs(part.mean() - whole) < 4 * part.std() / math.sqrt(4000)
    places = strata(torch.rand(3, 5000, generator=torch.Generator().manual_seed(0)), 4)
    assert places.flatten().bincount(minlength=4).double().numpy() == pytest.approx([3750] * 4, rel=0.04)


def test_nothing_that_the_policy_learns_reaches_the_encoder_and_the_other_way_round() -> None:
    environment = TabularMDPs(3, 2, 4)
    learner = made(environment, model=MLP(environment.input_shape, None, hidden=[4]), transitions=None)
    rollouts, numbers = played(learner, environment, 8, 2)
    network = learner.network
    of_task = [*network.encoder.parameters(), *network.decoder.parameters()]
    of_policy = [*learner.model.parameters(), *network.trunk.parameters(), *network.heads.parameters()]
    learner.surrogate(rollouts).mean().backward()
    assert all(p.grad is None for p in of_task)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in of_policy)
    learner.zero_grad()
    learner.bounds(rollouts, numbers).mean().backward()
    assert all(p.grad is None for p in of_policy)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in of_task)


@pytest.mark.parametrize("memory", [partial(GRU, hidden=8), partial(CausalTransformer, hidden=8, layers=2, heads=2)])
@pytest.mark.parametrize("environment", [BernoulliBandits(3), KeyToDoor(3, 6), PointNavigation(5, "half_circle", 0.2)])
def test_reading_a_trial_at_once_gives_the_numbers_of_acting(environment: Environment, memory: Any) -> None:
    learner = made(environment, memory=memory)
    nn.init.normal_(learner.network.heads.preferences.weight)
    rollouts, _ = played(learner, environment, 20, 3)
    policy = learner.policy()
    outputs, _ = policy.reread(rollouts)
    taken = policy.distribution.log_probability(outputs, rollouts.actions)
    assert torch.allclose(taken, torch.stack(rollouts.memory.log_probabilities), atol=1e-5)
    posteriors = learner.network.encoder.posteriors(rollouts)
    moments = torch.cat([posteriors.mean, posteriors.log_variance], -1)
    assert torch.allclose(moments, torch.stack(rollouts.memory.moments), atol=1e-5)


def test_the_posterior_learns_which_arm_pays() -> None:
    """Of two arms that nearly always and hardly ever pay, the decoder knows after a few pulls which is which."""
    environment = BernoulliBandits(2)
    settings = {"latent": 2, "entropy": 0.02, "likelihood": BernoulliOutcome(), "transitions": None, "decoder": [16]}
    learner = made(environment, **(settings | {"hidden": [32]}))
    adam = torch.optim.Adam(learner.parameters(), lr=0.02)
    returns = []
    for learner.outer_step in range(100):
        adam.zero_grad()
        tasks = tasks_of(environment, 128, 8, 128 * learner.outer_step)
        result = learner.meta_loss(tasks)
        result.loss.backward()
        adam.step()
        returns.append(result.query_logits.sum(1).mean())
    assert torch.stack(returns[-20:]).mean() > 4.4  # at random 4
    rollouts, _ = played(learner, environment, 500, 8)
    with torch.no_grad():
        posteriors = learner.network.encoder.posteriors(rollouts)
    means = world_of(tasks_of(environment, 500, 8).support).parameters["means"]
    first, last = (_explained(posteriors.mean[step], means[:, 0] - means[:, 1]) for step in (0, -1))
    assert first < 0.02
    assert last > 0.3


def _explained(x: Tensor, y: Tensor) -> float:
    """Share of the variance of y that is linear in x."""
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    residual = y.double() - x @ torch.linalg.lstsq(x, y.double()[:, None], driver="gelsd").solution[:, 0]
    return float(1 - residual.var() / y.double().var())


@pytest.mark.slow
def test_it_finds_the_goal_of_a_dark_room_again() -> None:
    environment = DarkRoom(3, 8)
    learner = made(
        environment, likelihood=BernoulliOutcome(), transitions=None, latent=4, hidden=[32], decoder=[32], trace=0.95
    )
    adam = torch.optim.Adam(learner.parameters(), lr=0.004)
    for learner.outer_step in range(500):
        adam.zero_grad()
        learner.meta_loss(tasks_of(environment, 64, 3, 64 * learner.outer_step)).loss.backward()
        adam.step()
    rollouts, _ = played(learner, environment, 500, 3)
    first, _, last = rollouts.returns.mean(0).tolist()
    assert last > first + 0.5


def test_a_run_that_was_interrupted_ends_bit_equal(tmp_path: Path) -> None:
    assert_goes_on(tmp_path, SMALL, after=2)


def test_two_ranks_reach_one_ranks_parameters(tmp_path: Path) -> None:
    trained_all(str(tmp_path / "one"), {"run": []}, SMALL)
    launch(trained_all, 2, str(tmp_path / "two"), {"run": ["trainer=ddp_cpu", "trainer.max_steps=6"]}, SMALL)
    assert distance_of_parameters(tmp_path / "one" / "run", tmp_path / "two" / "run") < 1e-5


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("latent", 0),
        ("hidden", []),
        ("decoder", [0]),
        ("transitions", 0.0),
        ("bound_weight", 0),
        ("divergence_weight", -1),
        ("prefixes", 0),
        ("decoded", 0),
        ("deviation", 0),
        ("discount", 2),
    ],
)
def test_bad_settings_are_refused_by_their_key(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.{setting}="):
        made(BernoulliBandits(3), **{setting: value})


def test_a_learned_embedding_is_no_target_and_other_actions_are_refused() -> None:
    with pytest.raises(UserError, match=r"algorithm\.transitions=0\.5: what is decoded must not be learned"):
        made(BernoulliBandits(3), model=MLP((1,), None, hidden=[4]))
    with pytest.raises(UserError, match=r"algorithm\.likelihood\.deviation=0: above 0"):
        FixedNormal(0)
    with pytest.raises(UserError, match="4 actions, but this policy was made for 3"):
        made(BernoulliBandits(3)).meta_loss(tasks_of(BernoulliBandits(4), 2, 2))
