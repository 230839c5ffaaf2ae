"""Policies that adapt by policy gradients: what they play, how they adapt, what is refused, and runs that were interrupted."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.cart_pole import CartPole
from metaloop.control.environments.environment import Environment, Step
from metaloop.control.environments.grids import KeyToDoor
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.inner.meta_gradients.meta_gradient import FirstOrder, Nothing, Unrolled
from metaloop.inner.meta_gradients.reverse_sweep import ReverseSweep
from metaloop.inner.objective import LastStep, Start, WeightedSum
from metaloop.inner.rules.learned_rates import LearnedRate
from metaloop.inner.rules.rule import GradientDescent
from metaloop.inner.selection.adapted import All, Head
from metaloop.inner.selection.context import Context
from metaloop.learners.control.policy_gradient.baselines import LinearFeatures, NeuralBaseline, ReturnBaseline
from metaloop.learners.control.policy_gradient.learner import PolicyGradientLearner
from metaloop.learners.control.policy_gradient.stacked import StackedPolicy
from metaloop.learners.control.policy_gradient.surrogates import LVC, DiCE
from metaloop.learners.control.policy_gradient.trust_region import TrustRegion
from metaloop.learners.control.policy_gradient.updates import ClippedRatio
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.training.processes.ranks import launch
from metaloop.types import EpisodeSpec, Params, Tasks
from small_runs import assert_goes_on, distance_of_parameters, trained, trained_all

SQUARE = PointNavigation(horizon=12, goals="square", radius=0.2)
SMALL_WORDS = (
    "name=small", "dataset=tabular_mdps", "dataset.environment.states=3", "dataset.environment.horizon=3", "model=tanh_mlp",
    "model.hidden=[5]", "episode=trial", "episode.queries=3", "algorithm.episodes=4", "outer.meta_batch=4",
    "trainer.max_steps=6", "validation.every=2", "validation.episodes=4", "evaluation.episodes=6", "log_every=1",
)  # fmt: skip


def made(environment: Environment = SQUARE, **settings: Any) -> PolicyGradientLearner:
    torch.manual_seed(0)
    model = settings.pop("model", None)
    model = model or MLP(environment.input_shape, environment.actions.count, hidden=[8], activation="tanh")
    settings = {
        "adapted": All(), "rule": partial(GradientDescent, lr=0.1), "meta_gradient": Unrolled(), "objective": LastStep(),
        "inner_surrogate": DiCE(), "baseline": LinearFeatures(), "outer_update": ClippedRatio(None, 0.0, 1), "steps": 1,
        "eval_steps": None, "episodes": 4, "eval_episodes": None, "discount": 0.99, "trace": 1.0, "standardize": True,
        "head_scale": 1.0, "deviation": 0.3,
    } | settings  # fmt: skip
    return PolicyGradientLearner(model, Regret(), environment.actions, **settings)


def tasks_of(environment: Environment, count: int, episodes: int = 3, first: int = 0) -> Tasks:
    numbers = torch.arange(first, first + count)
    return Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "train")).tasks(numbers)


def gradients(learner: PolicyGradientLearner, tasks: Tasks) -> Params:
    learner.zero_grad()
    learner.meta_loss(tasks).loss.backward()
    return {name: value.grad.clone() for name, value in learner.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("environment", [SQUARE, TabularMDPs(3, 2, 4), KeyToDoor(3, 6)], ids=lambda e: e.title)
def test_what_happens_in_a_task_does_not_depend_on_the_tasks_beside(environment: Environment) -> None:
    learner = made(environment, eval_steps=2)
    tasks = tasks_of(environment, 5)
    together = learner.adapt(tasks.support).curve(tasks.query.x)
    alone = learner.adapt(tasks[3:4].support).curve(tasks[3:4].query.x)
    assert together.shape == (3, 5, 3)
    assert torch.allclose(together[:, 3:4], alone, atol=1e-4)


@pytest.mark.parametrize("baseline", [LinearFeatures(), NeuralBaseline(4, 5, 0.1)], ids=["linear", "neural"])
def test_steps_after_all_episodes_change_no_gradient(baseline: ReturnBaseline, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = CartPole(80, 1.0, 0.1, [0.25, 0.5], [10.0, 15.0], reversed_share=0.5)
    learner, tasks, counted = made(environment, baseline=baseline), tasks_of(environment, 3), []
    step = CartPole.step
    monkeypatch.setattr(CartPole, "step", lambda *arguments: counted.append(0) or step(*arguments))
    found = gradients(learner, tasks)
    short = len(counted)
    monkeypatch.setattr(StackedPolicy, "skip", lambda *arguments: False)
    counted.clear()
    expected = gradients(learner, tasks)
    assert short < len(counted) == 2 * 80
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_point_of_the_curve_is_the_return_after_so_many_steps_on_other_episodes() -> None:
    tasks = tasks_of(SQUARE, 4)
    curve = made(eval_steps=2).adapt(tasks.support).curve(tasks.query.x)
    assert torch.equal(made(eval_steps=1).adapt(tasks.support).curve(tasks.query.x), curve[:2])
    fewer = made(eval_steps=2, eval_episodes=3).adapt(tasks.support).curve(tasks.query.x)
    assert torch.equal(fewer[0], curve[0])  # the queries do not depend on how many episodes an inner step has
    assert not torch.equal(fewer[1], curve[1])


def test_an_inner_step_is_a_policy_gradient_step() -> None:
    """By hand, from a learner's own episodes: REINFORCE with the baseline, in each task."""
    learner = made(steps=1)
    replay = learner._played(tasks_of(SQUARE, 3))
    after = replay.iterates({name: value.detach() for name, value in learner._meta.items()})[1]
    (experience,) = replay.inner
    for task in range(3):
        outputs = learner.model(experience.x[task])  # type: ignore[index]
        log_probability = replay.task.distribution.log_probability(outputs, experience.y[task])
        assert torch.allclose(log_probability, experience.log_probabilities[task], atol=1e-5)
        value = (log_probability * experience.advantages[task]).mean()
        for name, parameter in learner.model.named_parameters():
            (slope,) = torch.autograd.grad(value, parameter, retain_graph=True)
            assert torch.allclose(after[name][task], parameter + 0.1 * slope, atol=1e-5)


def test_two_halves_of_a_meta_batch_have_the_mean_gradient_of_the_whole() -> None:
    learner = made(steps=2, inner_surrogate=LVC(), outer_update=ClippedRatio(0.2, 0.1, 1))
    whole, parts = gradients(learner, tasks_of(SQUARE, 6)), [gradients(learner, tasks_of(SQUARE, 3, first=f)) for f in (0, 3)]
    assert whole.keys() == parts[0].keys()
    for name, value in whole.items():
        assert torch.allclose((parts[0][name] + parts[1][name]) / 2, value, atol=1e-5)


def test_choices_of_what_adapts_how_and_what_counts_compose() -> None:
    tasks = tasks_of(SQUARE, 3)
    head = made(adapted=Head()).policies(tasks.support)
    assert len(head) == 2
    rates = gradients(made(rule=partial(LearnedRate, lr=0.1, granularity="element")), tasks)
    assert all(rates[name].any() for name in rates if name.startswith("rule."))
    context = made(adapted=Context(2, r"^layers\.0$", "concatenate"))
    assert set(context.task.adapted) == {"layers.0.context.vector"}
    assert gradients(context, tasks)["model.layers.0.context.map.weight"].any()
    joint = made(objective=Start())
    assert not joint._played(tasks).inner
    assert gradients(joint, tasks)["model.head.weight"].any()
    several = made(objective=WeightedSum(), steps=2)._played(tasks)
    assert list(several.outer) == [1, 2]
    first, exact = (gradients(made(meta_gradient=kind), tasks) for kind in (FirstOrder(), Unrolled()))
    assert not torch.allclose(first["model.head.weight"], exact["model.head.weight"])
    scratch = made(meta_gradient=Nothing())
    assert not scratch.learns
    assert not any(value.any() for value in gradients(scratch, tasks).values())


def test_passes_take_the_episodes_of_the_first() -> None:
    learner = made(outer_update=ClippedRatio(0.3, 0.1, 3), inner_surrogate=LVC())
    sgd = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=0.5)
    returns, played = [], []
    for learner.outer_step in range(4):
        sgd.zero_grad()
        result = learner.meta_loss(tasks_of(SQUARE, 3, first=3 * (learner.outer_step // 3)))
        result.loss.backward()
        sgd.step()
        returns.append(result.query_logits)
        played.append(learner.played_by["model"].get_parameter("head.weight").clone())
    assert torch.equal(returns[0], returns[2])
    assert not torch.equal(returns[2], returns[3])
    assert torch.equal(played[0], played[2])
    assert not torch.equal(played[2], played[3])
    assert not torch.equal(learner.get_parameter("model.head.weight"), played[3])


EVOLVED = ("algorithm=maml_control", "algorithm/meta_gradient=evolution", "algorithm/baseline=neural")


@pytest.mark.parametrize(
    "words", [("algorithm=promp", "algorithm.outer_update.passes=4"), ("algorithm=maml_control",), EVOLVED], ids=lambda w: w[-1]
)
def test_a_run_that_was_interrupted_ends_bit_equal(words: tuple[str, ...], tmp_path: Path) -> None:
    """The second run goes on from step 2, amid the passes over one meta-batch."""
    small = (*SMALL_WORDS, *words)
    assert_goes_on(tmp_path, small, after=2)


def test_tasks_with_parameters_of_one_number_are_learned(tmp_path: Path) -> None:
    """Masses and lengths, which have no axis when a task stands alone."""
    words = [word for word in SMALL_WORDS if not word.startswith("dataset")]
    trained(tmp_path, "dataset=cart_pole", "dataset.environment.horizon=4", "algorithm=promp", small=words)


def test_two_ranks_reach_one_ranks_parameters(tmp_path: Path) -> None:
    runs = {
        "trpo": [
            "algorithm=maml_control",
            "algorithm/outer_update=trpo",
            "outer=whole_step",
            "outer.meta_batch=4",
            "algorithm.outer_update.damping=0.1",  # with less, a solution magnifies the rounding of sums a thousandfold
        ],
        "promp": ["algorithm=promp", "algorithm.outer_update.passes=2"],
        "evolved": list(EVOLVED),
    }
    trained_all(str(tmp_path / "one"), runs, SMALL_WORDS)
    launch(
        trained_all, 2, str(tmp_path / "two"), {n: [*r, "trainer=ddp_cpu", "trainer.max_steps=6"] for n, r in runs.items()},
        SMALL_WORDS,
    )  # fmt: skip
    for run in runs:
        assert distance_of_parameters(tmp_path / "one" / run, tmp_path / "two" / run) < 1e-4


def test_the_trust_region_refuses_whatever_changes_its_step(tmp_path: Path) -> None:
    trpo = (*SMALL_WORDS, "algorithm=maml_control", "algorithm/outer_update=trpo")
    with pytest.raises(UserError, match="take outer=whole_step"):
        trained(tmp_path / "adam", small=trpo)
    with pytest.raises(UserError, match="take outer=whole_step"):
        trained(tmp_path / "rate", "outer=whole_step", "outer.meta_batch=4", "outer.optimizer.lr=0.5", small=trpo)
    with pytest.raises(UserError, match=r"trainer\.gradient_clip_val=1\.0"):
        trained(tmp_path / "clip", "outer=whole_step", "outer.meta_batch=4", "trainer.gradient_clip_val=1.0", small=trpo)


class Broken(PointNavigation):
    """Its rewards are not finite from the sixth step on."""

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        result = super().step(parameters, state, actions, noise)
        return replace(result, reward=torch.where(result.state["time"] > 5, torch.nan, result.reward))


def test_a_reward_that_is_not_finite_is_an_error_that_names_it() -> None:
    broken = Broken(12, "square", 0.2)
    with pytest.raises(UserError, match=r"Broken: the reward of task 0 .* is nan \(episode 0, step 5"):
        made(broken).meta_loss(tasks_of(broken, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"algorithm\.steps=0"),
        ({"episodes": 0}, r"algorithm\.episodes=0"),
        ({"eval_episodes": 5000}, r"algorithm\.episodes=5000: at most 4096"),
        ({"discount": 0.0}, r"algorithm\.discount=0\.0"),
        ({"trace": 1.5}, r"algorithm\.trace=1\.5"),
        ({"deviation": 0.0}, r"algorithm\.deviation=0\.0"),
        ({"head_scale": 0.0}, r"algorithm\.head_scale=0\.0"),
        ({"meta_gradient": ReverseSweep()}, r"meta_gradient=ReverseSweep: .* evolution or none"),
        ({"model": Cells((2,), None)}, "no head"),
        ({"model": MLP((2,), 2, [4], norm="batch")}, r"model\.norm=batch"),
    ],
)
def test_bad_settings_are_refused_by_their_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**settings)


def test_tasks_with_other_actions_are_refused() -> None:
    with pytest.raises(UserError, match="but this policy was made for"):
        made(BernoulliBandits(3)).meta_loss(tasks_of(BernoulliBandits(4), 2))


def test_a_few_trust_region_steps_learn_to_adapt() -> None:
    """Two arms, one of which pays: the adapted policy must pull the arm that paid before."""
    environment = BernoulliBandits(2)
    update = TrustRegion(0.05, 10, 1e-5, 0.8, 15)
    learner = made(environment, outer_update=update, episodes=10, rule=partial(GradientDescent, lr=1.0), standardize=False)
    sgd = torch.optim.SGD(learner.parameters(), lr=1.0)
    tasks = tasks_of(environment, 200, 10, first=10_000)

    def gain() -> float:
        before, after = learner.adapt(tasks.support).curve(tasks.query.x).mean((1, 2)).tolist()
        return after - before

    at_first = gain()
    for learner.outer_step in range(15):
        sgd.zero_grad()
        learner.meta_loss(tasks_of(environment, 40, 10, first=40 * learner.outer_step)).loss.backward()
        sgd.step()
    assert gain() > at_first + 0.05
