"""ES-MAML for control: by definition, and on bandits whose return after adaptation is known."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from metaloop.control.environments.bandits import Bandits
from metaloop.control.environments.environment import Environment, Step
from metaloop.control.environments.navigation import PointNavigation
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.inner.meta_gradients.evolution import EvolutionStrategies, perturbation
from metaloop.inner.objective import LastStep
from metaloop.inner.rules.learned_rates import LearnedRate
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All, Head
from metaloop.learners.control.policy_gradient.baselines import LinearFeatures, NoBaseline, ReturnBaseline
from metaloop.learners.control.policy_gradient.learner import PolicyGradientLearner
from metaloop.learners.control.policy_gradient.surrogates import LogLikelihood
from metaloop.learners.control.policy_gradient.trust_region import TrustRegion
from metaloop.learners.control.policy_gradient.updates import ClippedRatio, OuterUpdate
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.types import EpisodeSpec, Params, Tasks

PLAIN = ClippedRatio(None, 0.0, 1)
SQUARE = PointNavigation(horizon=6, goals="square", radius=0.2)


class SureArms(Bandits):
    """Two arms; one pays 1, always: the first in three tasks of four."""

    def __init__(self) -> None:
        super().__init__(2, "sure arms")

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        first = (numbers & 3 != 0).float()
        return {"means": torch.stack([first, 1 - first], 1)}

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        return Step(state, parameters["means"].gather(1, actions[:, None])[:, 0])


class Logits(nn.Module):
    """A head alone, of the single 0 that is observed: a logit for each arm."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x)
        return logits


def made(
    environment: Environment,
    strategy: EvolutionStrategies,
    *,
    model: nn.Module | None = None,
    adapted: All | Head | None = None,
    rule: object = GradientDescent,
    baseline: ReturnBaseline | None = None,
    episodes: int = 4,
    outer_update: OuterUpdate = PLAIN,
) -> PolicyGradientLearner:
    torch.manual_seed(0)
    model = model or MLP(environment.input_shape, environment.actions.count, hidden=[4], activation="tanh")
    return PolicyGradientLearner(
        model, Regret(), environment.actions, adapted or All(), partial(rule, lr=0.5),  # type: ignore[operator]
        strategy, LastStep(), LogLikelihood(), baseline or LinearFeatures(), outer_update, steps=1, eval_steps=None,
        episodes=episodes, eval_episodes=None, discount=0.99, trace=1.0, standardize=False, head_scale=1.0, deviation=0.3,
    )  # fmt: skip


def tasks_of(environment: Environment, count: int, episodes: int) -> Tasks:
    return Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "train")).tasks(torch.arange(count))


def gradients(learner: PolicyGradientLearner, tasks: Tasks) -> Params:
    learner.zero_grad()
    learner.meta_loss(tasks).loss.backward()
    return {name: value.grad.clone() for name, value in learner.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("adapted", [All(), Head()], ids=["all", "head"])
def test_it_is_the_mean_of_antithetic_differences_of_the_return_after_adaptation(adapted: All | Head) -> None:
    """By hand, one task and one perturbation at a time, through the learner's own parameters."""
    learner = made(SQUARE, EvolutionStrategies(2, 0.1), adapted=adapted, rule=partial(LearnedRate, granularity="element"))
    tasks = tasks_of(SQUARE, 3, 5)
    found = gradients(learner, tasks)
    assert any(name.startswith("rule.") for name in found)
    start = {name: value.detach().clone() for name, value in learner.named_parameters()}
    expected = {name: torch.zeros_like(value) for name, value in start.items()}
    for place in range(3):
        task = tasks[place : place + 1]
        assert task.support.number is not None
        for pair in range(2):
            noise = perturbation(task.support.number[0], pair, start)
            ends = []
            for sign in (1, -1):
                for name, parameter in learner.named_parameters():
                    parameter.data.copy_(start[name] + sign * 0.1 * noise[name])
                ends.append(learner.adapt(task.support).curve(task.query.x)[-1].mean())
            for name in expected:
                expected[name] -= (ends[0] - ends[1]) / (2 * 0.1) * noise[name] / 6
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-3, rtol=1e-3)


def return_after_a_step(logits: Tensor, pays: int) -> Tensor:
    """Exact expected return of two arms after a step of length 0.5 along the expected policy gradient."""
    policy = logits.softmax(-1)
    slope = policy[pays] * (torch.eye(2, dtype=logits.dtype)[pays] - policy)
    return (logits + 0.5 * slope).softmax(-1)[pays]


def test_on_bandits_it_is_the_slope_of_the_known_return_after_adaptation() -> None:
    environment = SureArms()
    learner = made(environment, EvolutionStrategies(6, 0.2), model=Logits(), baseline=NoBaseline(), episodes=300)
    tasks = tasks_of(environment, 48, 300)
    assert tasks.support.number is not None
    found = -gradients(learner, tasks)["model.head.bias"]
    meta = {name: value.detach() for name, value in learner._meta.items()}
    bias = meta["model.head.bias"]
    expected, exact = torch.zeros(2), torch.zeros(2)
    pays = (tasks.support.world.parameters["means"][:, 1] > 0).long().tolist()  # type: ignore[union-attr]
    for number, arm in zip(tasks.support.number, pays, strict=True):
        for pair in range(6):
            noise = perturbation(number, pair, meta)["model.head.bias"]
            plus, minus = (return_after_a_step(bias + sign * 0.2 * noise, arm) for sign in (1, -1))
            expected += (plus - minus) / 0.4 * noise / (48 * 6)
        exact += torch.autograd.functional.jacobian(partial(return_after_a_step, pays=arm), bias) / 48
    assert torch.allclose(found, expected, atol=0.02)  # with the same perturbations; what is left is chance in 300 episodes
    assert exact.norm() > 0.1
    assert torch.allclose(found, exact, atol=0.3 * float(exact.norm()))  # of any perturbations


@pytest.mark.parametrize(
    "update",
    [ClippedRatio(0.2, 0.0, 1), ClippedRatio(None, 0.1, 1), ClippedRatio(None, 0.0, 2), TrustRegion(0.01, 5, 0.1, 0.5, 3)],
)
def test_other_outer_updates_are_refused(update: OuterUpdate) -> None:
    with pytest.raises(UserError, match="algorithm/outer_update=policy_gradient"):
        made(SQUARE, EvolutionStrategies(2, 0.1), outer_update=update)
