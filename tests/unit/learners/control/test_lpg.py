"""The learned policy gradient: targets and updates by hand, meta-gradients by finite differences, and interrupted runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.grids import DarkRoom, KeyToDoor
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.learners.control.policy_gradient.baselines import LinearFeatures
from metaloop.learners.control.update_rules.lpg import LPG
from metaloop.learners.control.update_rules.objective import Targets
from metaloop.learners.control.update_rules.streams import Streams
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.training.processes.ranks import launch
from metaloop.types import EpisodeSpec, Params, Tasks
from small_runs import assert_goes_on, distance_of_parameters, trained_all

SMALL_WORDS = (
    "name=small", "algorithm=lpg", "dataset=tabular_mdps", "dataset.environment.states=3", "dataset.environment.horizon=3",
    "model=cells", "episode=trial", "episode.queries=3", "algorithm.hidden=4", "algorithm.predictions=3", "algorithm.updates=4",
    "algorithm.window=2", "algorithm.streams=2", "algorithm.outer_episodes=4", "outer.meta_batch=4", "trainer.max_steps=6",
    "validation.every=2", "validation.episodes=4", "evaluation.episodes=6", "log_every=1",
)  # fmt: skip
SMALL_MDPS = TabularMDPs(3, 2, 4)


def made(environment: Environment = SMALL_MDPS, **settings: Any) -> LPG:
    torch.manual_seed(0)
    model = settings.pop("model", None) or Cells(environment.input_shape, None)
    settings = {
        "tabular": True, "predictions": 3, "hidden": 5, "embedding": 4, "rate": 2.0, "updates": 4, "eval_updates": None,
        "window": 2, "streams": 3, "episodes": 2, "outer_episodes": 5, "discount": 0.9, "prediction_weight": 0.5,
        "entropy": 0.05, "prediction_entropy": 0.02, "policy_penalty": 0.1, "prediction_penalty": 0.2,
    } | settings  # fmt: skip
    return LPG(model, Regret(), environment.actions, LinearFeatures(), **settings)


def tasks_of(environment: Environment, count: int, first: int = 0) -> Tasks:
    return Episodes(environment, EpisodeSpec(1, 1, 3), Stream(0, "train")).tasks(torch.arange(first, first + count))


def played(learner: LPG, count: int = 2) -> tuple[Streams, Tensor, Tensor]:
    """Streams of agents with random tables, and their logits and predictions, in float64."""
    lifetimes = learner.lifetimes(tasks_of(SMALL_MDPS, count).support)
    params = learner.agent.start(SMALL_MDPS, lifetimes.numbers)
    params = {name: torch.randn_like(value) for name, value in params.items()}
    streams = lifetimes.play(params, 0)
    doubles = {name: value.double() for name, value in params.items()}
    return streams, *learner.update(SMALL_MDPS).outputs(doubles, streams)


def test_targets_are_those_of_an_lstm_that_reads_a_stream_backward_and_forgets_at_the_end_of_an_episode() -> None:
    learner = made()
    objective = learner.objective.double()
    streams, logits, predictions = played(learner)
    targets = objective(streams, 0.9, logits, predictions)
    memory = torch.nn.LSTM(6, 5).double()
    memory.load_state_dict({f"{name}_l0": value for name, value in objective.memory.state_dict().items()})
    for task in range(2):
        for stream in range(3):
            for episode in range(2):
                rows = []
                for step in range(4 * episode, 4 * episode + 4):
                    policy = logits[task, stream, step].softmax(-1)[streams.actions[task, stream, step]]
                    ends = 1.0 if step % 4 == 3 else 0.0
                    y = [objective.embed(predictions[task, stream, at].softmax(-1))[0] for at in (step, step + 1)]
                    known = [streams.rewards[task, stream, step].double(), torch.tensor(ends), torch.tensor(0.9), policy]
                    rows.append(torch.stack([value.double() for value in [*known, *y]]))
                features = memory(torch.stack(rows[::-1])[:, None])[0][:, 0].flip(0)
                span = slice(4 * episode, 4 * episode + 4)
                assert torch.allclose(targets.policy[task, stream, span], objective.policy(features)[:, 0])
                assert torch.allclose(targets.prediction[task, stream, span], objective.prediction(features))


def test_an_update_is_a_gradient_step_with_the_targets_held_constant() -> None:
    """By the formula of the update (Oh et al. 2020, equation 2), in each task."""
    learner = made()
    learner.objective.double()
    lifetimes = learner.lifetimes(tasks_of(SMALL_MDPS, 2).support)
    start = {n: torch.randn_like(v).double() for n, v in learner.agent.start(SMALL_MDPS, lifetimes.numbers).items()}
    streams = lifetimes.play({name: value.float() for name, value in start.items()}, 0)
    after, targets = learner.update(SMALL_MDPS)(start, streams, learned=False)
    for task in range(2):
        leaves = {name: value[task].clone().requires_grad_() for name, value in start.items()}
        total: Tensor | float = 0.0
        for stream in range(3):
            for step in range(8):
                place = int(streams.observations[task, stream, step].argmax())
                both = leaves["heads.weight"][place] + leaves["heads.bias"][0]
                log_policy, log_y = both[:2].log_softmax(-1), both[2:].log_softmax(-1)
                log_target = targets.prediction[task, stream, step].log_softmax(-1).detach()
                total = total + targets.policy[task, stream, step].detach() * log_policy[streams.actions[task, stream, step]]
                total = total - 0.5 * (log_y.exp() * (log_y - log_target)).sum()
        slopes = torch.autograd.grad(total / 24, list(leaves.values()))  # type: ignore[arg-type, operator]
        for name, slope in zip(leaves, slopes, strict=True):
            assert torch.allclose(after[name][task], start[name][task] + 2.0 * slope)


def window_loss(learner: LPG, start: Params, record: list[Streams], episodes: Any) -> Tensor:
    """The outer loss of a window in which the agents always play what was recorded."""
    update, params, targets = learner.update(SMALL_MDPS), start, list[Targets]()
    for streams in record:
        params, wanted = update(params, streams, learned=True)
        targets.append(wanted)
    return learner.losses(update, params, targets, episodes).mean()


def test_the_meta_gradient_of_a_window_is_that_of_finite_differences() -> None:
    """Through two updates, with what was played held fixed, in float64."""
    learner = made()
    learner.objective.double()
    lifetimes = learner.lifetimes(tasks_of(SMALL_MDPS, 2).support)
    start = {n: torch.randn_like(v).double() for n, v in learner.agent.start(SMALL_MDPS, lifetimes.numbers).items()}
    singles = {name: value.float() for name, value in start.items()}
    record = [lifetimes.play(singles, number) for number in range(2)]
    episodes = learner._played(lifetimes, singles, 0)
    episodes = replace(episodes, advantages=episodes.advantages.double())
    parameters = list(learner.objective.parameters())
    slopes = torch.autograd.grad(window_loss(learner, start, record, episodes), parameters)
    random = torch.Generator().manual_seed(0)
    for parameter, slope in zip(parameters, slopes, strict=True):
        direction = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-5 * direction)
            ends.append(window_loss(learner, start, record, episodes).item())
            with torch.no_grad():
                parameter.sub_(sign * 1e-5 * direction)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float((slope * direction).sum()), rel=1e-5, abs=1e-9)
        assert slope.any()


def test_an_outer_step_is_the_mean_over_windows_and_a_curve_counts_updates() -> None:
    learner = made()
    tasks = tasks_of(SMALL_MDPS, 3)
    learner.meta_loss(tasks).loss.backward()
    found = [value.grad.clone() for value in learner.objective.parameters() if value.grad is not None]
    lifetimes = learner.lifetimes(tasks.support)
    update, params = learner.update(SMALL_MDPS), learner.agent.start(SMALL_MDPS, lifetimes.numbers)
    total = [torch.zeros_like(value) for value in found]
    for window in range(2):
        record = []
        at = params
        for step in (0, 1):
            record.append(lifetimes.play(at, 2 * window + step))
            at = update(at, record[-1], learned=False)[0]
        loss = window_loss(learner, params, record, learner._played(lifetimes, at, window))
        total = [t + s / 2 for t, s in zip(total, torch.autograd.grad(loss, list(learner.objective.parameters())), strict=True)]
        params = at
    for value, expected in zip(found, total, strict=True):
        assert torch.allclose(value, expected, atol=1e-6)
    predictor = learner.adapt(tasks.support)
    assert predictor.curve(tasks.query.x).shape == (5, 3, 3)
    assert predictor.curve_steps == (0, 1, 2, 3, 4)
    alone = learner.adapt(tasks[1:2].support).curve(tasks[1:2].query.x)
    assert torch.allclose(predictor.curve(tasks.query.x)[:, 1:2], alone, atol=1e-5)


def test_streams_whose_episodes_end_early_have_their_steps_first() -> None:
    environment = KeyToDoor(3, 30)
    learner = made(environment)
    lifetimes = learner.lifetimes(tasks_of(environment, 4).support)
    streams = lifetimes.play(learner.agent.start(environment, lifetimes.numbers), 0)
    assert not streams.real.all()
    assert torch.equal(streams.real.long().diff(dim=-1).clamp(min=0), torch.zeros_like(streams.actions[..., 1:]))
    assert torch.equal((streams.terminal & streams.real).sum(-1), torch.full((4, 3), 2))
    assert not streams.rewards[~streams.real].any()
    start = streams.observations[:, :, :1]
    after = streams.terminal[..., :-1, None] & streams.real[..., 1:, None]
    assert ((streams.observations[:, :, 1:-1] == start) | ~after).all()  # in this room episodes start where the first did


def test_agents_start_at_random_as_their_task_says_and_are_tables_or_networks() -> None:
    environment = DarkRoom(3, 5)
    model = MLP(environment.input_shape, None, [6], activation="tanh")
    learner = made(environment, model=model, tabular=False)
    tasks = tasks_of(environment, 4)
    weights = learner.agent.start(environment, tasks.support.number)  # type: ignore[arg-type]
    assert weights["layers.0.weight"].shape == (4, 6, 6)
    assert not torch.equal(weights["layers.0.weight"][0], weights["layers.0.weight"][1])
    alone = learner.agent.start(environment, tasks[2:3].support.number)  # type: ignore[arg-type]
    assert torch.equal(alone["layers.0.weight"][0], weights["layers.0.weight"][2])
    assert learner.adapt(tasks.support).curve(tasks.query.x).shape == (5, 4, 3)
    assert all(not parameter.requires_grad for parameter in learner.model.parameters())
    with pytest.raises(UserError, match=r"algorithm\.tabular=true: a table needs no network"):
        made(environment, model=model).adapt(tasks.support)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"updates": 1024}, r"algorithm\.updates=1024: at least 1 and at most 1023"),
        ({"updates": 1000}, r"algorithm\.updates=1000: with the windows"),
        ({"window": 3}, r"algorithm\.window=3: a divisor of algorithm\.updates=4"),
        ({"rate": 0.0}, r"algorithm\.rate=0\.0"),
        ({"discount": 1.5}, r"algorithm\.discount=1\.5"),
        ({"hidden": 0}, r"algorithm\.hidden=0: at least 1"),
        ({"environment": PointNavigation(3, "square", 0.2)}, "discrete actions"),
    ],
)
def test_bad_settings_are_refused_by_their_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**settings)


def test_observations_that_are_not_counted_have_no_table() -> None:
    environment = BernoulliBandits(3)
    environment.places = None
    with pytest.raises(UserError, match=r"algorithm\.tabular=false"):
        made(environment).adapt(tasks_of(environment, 2).support)


def test_a_run_that_was_interrupted_ends_bit_equal(tmp_path: Path) -> None:
    assert_goes_on(tmp_path, SMALL_WORDS, after=2)


def test_two_ranks_reach_one_ranks_parameters(tmp_path: Path) -> None:
    trained_all(str(tmp_path / "one"), {"lpg": []}, SMALL_WORDS)
    launch(trained_all, 2, str(tmp_path / "two"), {"lpg": ["trainer=ddp_cpu", "trainer.max_steps=6"]}, SMALL_WORDS)
    assert distance_of_parameters(tmp_path / "one" / "lpg", tmp_path / "two" / "lpg") < 1e-4
