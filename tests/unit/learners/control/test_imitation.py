"""Imitation: what it predicts, of whose histories, and what it learns by that."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from metaloop.control.agents.bandits import Greedy, Thompson
from metaloop.control.agents.q_learning import QLearning
from metaloop.control.agents.simple import Drawn, Random, Told
from metaloop.control.attention import CausalTransformer
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.grids import DarkRoom, KeyToDoor
from metaloop.control.labels import ActionLabel, Best, BestOncePaid, Taken
from metaloop.control.memories import GRU
from metaloop.control.policies import ControlPolicy, TrialStart
from metaloop.control.rollouts import Rollouts, play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.learners.control.imitation import Imitation
from metaloop.learners.control.playing import world_of
from metaloop.models.cells import Cells
from metaloop.problems.control import Actions, Regret
from metaloop.types import EpisodeSpec, Tasks
from small_runs import trained


def made(environment: Environment, agent: ControlPolicy, label: ActionLabel, hidden: int = 8, **settings: Any) -> Imitation:
    torch.manual_seed(0)
    memory = partial(GRU, hidden=hidden)
    chosen: dict[str, Any] = {"own": 0.0, "every": 1} | settings
    return Imitation(Cells(environment.input_shape, None), Regret(), environment.actions, memory, agent, label, **chosen)


def tasks_of(environment: Environment, count: int, episodes: int, first: int = 0) -> Tasks:
    return Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "train")).tasks(torch.arange(first, first + count))


def history_of(tasks: Tasks, policy: ControlPolicy) -> Rollouts:
    assert tasks.support.number is not None
    return play(world_of(tasks.support), tasks.support.number, policy, best=True)


def train(learner: Imitation, environment: Environment, episodes: int, steps: int) -> None:
    adam = torch.optim.Adam(learner.parameters(), lr=0.01)
    for learner.outer_step in range(steps):
        adam.zero_grad()
        learner.meta_loss(tasks_of(environment, 128, episodes, 128 * learner.outer_step)).loss.backward()
        adam.step()


class Stubborn(ControlPolicy):
    """Always takes the last action."""

    def start(self, trial: TrialStart) -> int:
        return trial.environment.actions.count - 1

    def act(self, memory: int, observation: Tensor) -> Tensor:
        return torch.full((len(observation),), memory)

    def learn(self, memory: int, transition: object) -> int:
        return memory


@pytest.mark.parametrize("label", [Best(), Taken()], ids=["best", "taken"])
def test_the_loss_is_the_cross_entropy_of_the_labels_of_real_steps(label: ActionLabel) -> None:
    environment = KeyToDoor(3, 7)
    learner, tasks = made(environment, Random(), label), tasks_of(environment, 6, 3)
    torch.nn.init.normal_(learner.network.preferences.weight)
    history = history_of(tasks, Random())
    assert not bool(history.real.all())
    log_probabilities, values = learner.policy().reread(history)
    assert values is None
    losses = []
    for task in range(6):
        steps = history.real[:, task].nonzero()[:, 0].tolist()
        told = history.actions if label.best is False else history.best
        assert told is not None
        losses.append(-sum(log_probabilities[step, task, told[step, task]] for step in steps) / len(steps))
    assert torch.allclose(learner.meta_loss(tasks).loss, torch.stack(losses).mean())  # type: ignore[arg-type]


def test_best_labels_are_those_of_the_oracle_on_the_way() -> None:
    """In a dark room they lead to the goal from wherever the history is."""
    environment = DarkRoom(5, 8)
    tasks = tasks_of(environment, 10, 2)
    told = history_of(tasks, Told())
    assert torch.equal(told.best, told.actions)  # type: ignore[arg-type]
    history = history_of(tasks, Random())
    assert history.best is not None
    goal = world_of(tasks.support).parameters["goal"]
    place = history.observations.unflatten(-1, (2, 5)).argmax(-1)
    after = environment.moved(place.flatten(0, 1), history.best.flatten()).view_as(place)
    before, now = ((each - goal).abs().sum(-1) for each in (place, after))
    assert torch.equal(now, (before - 1).clamp(min=0))


def test_a_search_is_copied_until_it_is_paid_and_then_the_best_is_told() -> None:
    history = history_of(tasks_of(DarkRoom(5, 8), 20, 4), QLearning(1.0, 0.9, 1.0, 0.0))
    assert history.best is not None
    labels = BestOncePaid().of(history)
    for task in range(20):
        paid = history.rewards[:, task].nonzero()
        first = int(paid[0]) + 1 if len(paid) else 32  # the step that is paid is still of the search
        assert torch.equal(labels[:first, task], history.actions[:first, task])
        assert torch.equal(labels[first:, task], history.best[first:, task])


def test_it_learns_the_posterior_probability_that_an_arm_is_the_best() -> None:
    """That is what minimizes the cross-entropy of best actions: two arms, by integrals of beta densities."""
    environment = BernoulliBandits(2)
    learner = made(environment, Drawn(), Best(), hidden=24)
    train(learner, environment, episodes=6, steps=250)
    history = history_of(tasks_of(environment, 300, 6, 10**6), Drawn())
    with torch.no_grad():
        predicted = learner.policy().reread(history)[0].exp()[-1, :, 0]
    grid = (torch.arange(400).double() + 0.5) / 400
    errors = []
    for task in range(300):
        pulls = [history.rewards[:-1, task][history.actions[:-1, task] == arm] for arm in range(2)]
        first, second = (beta(1 + float(each.sum()), 1 + float((1 - each).sum())) for each in pulls)
        errors.append(float(predicted[task]) - float((first.pdf(grid) * second.cdf(grid)).mean()))
    assert torch.tensor(errors).abs().mean() < 0.06


def test_it_goes_on_as_the_algorithm_that_it_was_distilled_from() -> None:
    environment = BernoulliBandits(2)
    learner = made(environment, Greedy(0.0), Taken(), hidden=24)
    train(learner, environment, episodes=6, steps=150)
    history = history_of(tasks_of(environment, 300, 6, 10**6), Greedy(0.0))
    with torch.no_grad():
        log_probabilities, _ = learner.policy().reread(history)
    assert (log_probabilities.argmax(-1) == history.actions)[1:].float().mean() > 0.85  # the rest are ties
    with torch.no_grad():
        tasks = tasks_of(environment, 300, 6, 10**6)
        total = learner.adapt(tasks.support)(tasks.query.x).sum(1).mean()
    assert total.item() == pytest.approx(history.returns.sum(1).mean().item(), abs=0.25)


def test_who_acts_in_a_history_is_drawn_for_each_task() -> None:
    environment = BernoulliBandits(4)
    tasks = tasks_of(environment, 400, 1)
    agent, own, half = (made(environment, Stubborn(), Best(), own=own) for own in (0.0, 1.0, 0.5))
    returns = {id(each): each.meta_loss(tasks).query_logits for each in (agent, own, half)}
    assert torch.equal(returns[id(agent)], history_of(tasks, Stubborn()).returns)
    assert torch.equal(returns[id(own)], history_of(tasks, own.policy()).returns)
    of_agent = (returns[id(half)] == returns[id(agent)]).float().mean()
    of_own = (returns[id(half)] == returns[id(own)]).float().mean()
    equal = (returns[id(agent)] == returns[id(own)]).float().mean()
    assert of_agent.item() == pytest.approx((1 + equal.item()) / 2, abs=0.08)
    assert of_own.item() == pytest.approx((1 + equal.item()) / 2, abs=0.08)


def test_two_halves_of_a_meta_batch_have_the_mean_gradient_of_the_whole() -> None:
    environment = DarkRoom(5, 8)
    learner = made(environment, Drawn(), Best(), own=0.5)

    def gradient(first: int, count: int) -> Tensor:
        learner.zero_grad()
        learner.meta_loss(tasks_of(environment, count, 2, first)).loss.backward()
        assert all(p.grad is not None for p in learner.parameters())  # all ranks must have one for all
        return torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])

    assert torch.allclose((gradient(0, 6) + gradient(6, 6)) / 2, gradient(0, 12), atol=1e-6)


def test_every_third_episode_of_a_longer_history_is_kept() -> None:
    environment, agent = DarkRoom(5, 8), QLearning(1.0, 0.9, 1.0, 0.0)
    tasks, longer = tasks_of(environment, 5, 3), tasks_of(environment, 5, 9)
    whole = history_of(longer, agent)
    kept = whole.each(3)
    assert torch.equal(kept.returns, whole.returns[:, ::3])
    assert torch.equal(kept.observations[8:16], whole.observations[24:32])
    assert kept.best is not None
    assert kept.best.shape == (24, 5)
    assert torch.equal(made(environment, agent, Taken(), every=3).meta_loss(tasks).query_logits, kept.returns)


def test_a_transformer_finds_out_which_arm_pays() -> None:
    environment = BernoulliBandits(2)
    memory = partial(CausalTransformer, hidden=16, layers=1, heads=2)
    torch.manual_seed(0)
    model = Cells(environment.input_shape, None)
    learner = Imitation(model, Regret(), environment.actions, memory, Thompson(optimistic=False), Best(), own=0.5, every=1)
    train(learner, environment, episodes=8, steps=60)
    tasks = tasks_of(environment, 500, 8, 10**6)
    returns = learner.adapt(tasks.support)(tasks.query.x)
    assert returns[:, -3:].mean() > returns[:, 0].mean() + 0.07


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"own": 1.5}, r"algorithm\.own=1\.5: between 0 and 1"),
        ({"every": 0}, r"algorithm\.every=0: at least 1"),
        ({"own": 0.5, "label": Taken()}, r"algorithm\.own=0\.5: .* algorithm/label=best"),
        ({"agent": Told()}, r"algorithm/agent: .* give the best ones away"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    chosen = {"agent": Random(), "label": Best()} | settings
    with pytest.raises(UserError, match=message):
        made(BernoulliBandits(3), **chosen)


@pytest.mark.parametrize("preset", ["algorithm_distillation", "decision_pretrained"])
def test_tasks_that_are_no_environments_are_refused_before_training(preset: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="acts in environments, but the data set's tasks are of regression"):
        trained(tmp_path, "dataset=sinusoid", f"algorithm={preset}", "episode=trial", "model=cells", "name=small", small=())


def test_what_it_cannot_act_in_is_refused() -> None:
    with pytest.raises(UserError, match="discrete actions"):
        Imitation(
            Cells((2,), None), Regret(), Actions(2, continuous=True), partial(GRU, hidden=2), Random(), Best(), own=0, every=1
        )
