"""Reptile as its authors run it: moments that go on, shuffled inner batches, statistics of the support set and one query."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from metaloop.config.build import build_learner
from metaloop.config.composition import DEFAULTS
from metaloop.config.folder import conf_dir
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.support_order import Epochs, Rotation, Shuffled, batches
from metaloop.learners.network_check import check_network
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.types import EpisodeSpec, Examples, Tasks

SPEC = EpisodeSpec(ways=3, shots=6, queries=2)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def pool() -> ClassPool:
    random = torch.Generator().manual_seed(0)
    means = torch.randint(0, 200, (6, 1, 1, 8, 8), generator=random)
    noise = torch.randint(0, 55, (6, 10, 1, 8, 8), generator=random)
    return ClassPool((means + noise).flatten(0, 1).to(torch.uint8), [10] * 6, [f"class {i}" for i in range(6)])


def preset(*overrides: str) -> GradientLearner:
    small = ("model.filters=4", "model.downsample=stride", "algorithm/over_tasks=loop", "algorithm.inner_batch=5")
    more = ("algorithm.rule.eps_root=1e-30", "algorithm.steps=7", "algorithm.eval_steps=3", *overrides)
    with initialize_config_dir(str(conf_dir()), **DEFAULTS):
        composed = compose("train", ["algorithm=reptile", "model=conv4", *small, *more])
    config = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("algorithm", "model")}
    learner = build_learner(config | {"seed": 0}, pool(), SPEC).double()
    assert isinstance(learner, GradientLearner)
    return learner


def drawn(count: int, first: int = 0) -> Tasks:
    episodes = Episodes(pool(), SPEC, Stream(0, "train"))
    tasks = episodes.tasks(torch.arange(first, first + count))
    return tasks.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def one(tasks: Tasks, i: int) -> Tasks:
    return tasks.map(lambda tensor: tensor[i])


def outer_step(learner: GradientLearner, tasks: Tasks, size: float) -> None:
    optimizer = torch.optim.SGD(learner.parameters(), lr=size)
    optimizer.zero_grad()
    learner.meta_loss(tasks).loss.backward()
    optimizer.step()


def shuffled_batches(task: Tasks, size: int, steps: int) -> Iterator[Examples]:
    """Passes in new orders, one after the other and cut into batches: the authors' ``_mini_batches``."""
    count = len(task.support.y)
    passes = [Shuffled().rows(task.support, count, number) for number in range(size * steps // count + 1)]
    for rows in torch.cat(passes).split(size)[:steps]:
        yield Examples(task.support.x[rows], task.support.y[rows])


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Iterator[Examples]) -> None:
    for batch in inputs:
        optimizer.zero_grad()
        F.cross_entropy(model(batch.x), batch.y).backward()
        optimizer.step()


def test_C1_the_preset_is_the_authors_loop_one_task_at_a_time() -> None:
    """Equation 1 with plain torch: one Adam without momentum that is never reset, batches of a shuffled support set."""
    learner = preset()
    model = copy.deepcopy(learner.model)
    adam = torch.optim.Adam(model.parameters(), lr=0.001, betas=(0.0, 0.999))
    for number in range(3):
        task = drawn(1, number)
        old = [value.detach().clone() for value in model.parameters()]
        descend(model, adam, shuffled_batches(one(task, 0), 5, 7))
        with torch.no_grad():
            for value, before in zip(model.parameters(), old, strict=True):
                value.copy_(before + 0.3 * (value - before))
        outer_step(learner, task, 0.3)
        for ours, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)
    # At test the state is a copy: two tasks do not see each other's.
    support = drawn(2, 7).support
    ours = learner.eval().adapt(support).adapted
    assert ours is not None
    for i in range(2):
        here = copy.deepcopy(model)
        optimizer = torch.optim.Adam(here.parameters())
        optimizer.load_state_dict(copy.deepcopy(adam.state_dict()))
        descend(here, optimizer, shuffled_batches(one(drawn(2, 7), i), 5, 3))
        for name, value in here.named_parameters():
            torch.testing.assert_close(ours[name][i], value, **CLOSE)


def test_C1_a_meta_batch_hands_on_the_mean_of_its_last_moments() -> None:
    both, single = preset(), [preset(), preset()]
    outer_step(both, drawn(2), 0.0)
    for number, learner in enumerate(single):
        outer_step(learner, drawn(1, number), 0.0)
    assert len(both.state.values()) == 1 + len(list(both.model.parameters()))  # the second moments and their number of steps
    for name, value in both.state.values().items():
        assert value.any()
        torch.testing.assert_close(value, (single[0].state.values()[name] + single[1].state.values()[name]) / 2, **CLOSE)
    other = preset()
    other.load_state_dict(both.state_dict())
    assert all(torch.equal(value, other.state.values()[name]) for name, value in both.state.values().items())


def test_C1_without_keep_state_every_task_starts_anew() -> None:
    learner = preset("algorithm.meta_gradient.keep_state=false")
    outer_step(learner, drawn(2), 0.0)
    assert not learner.state.values()
    assert not list(learner.buffers())
    kept = preset()
    outer_step(kept, drawn(2), 0.0)
    assert kept.meta_loss(drawn(2)).loss != learner.meta_loss(drawn(2)).loss


@pytest.mark.parametrize("strategy", ["vmap", "workers"])
def test_C1_strategies_hand_on_the_same_moments(strategy: str) -> None:
    loop, other = preset(), preset(f"algorithm/over_tasks={strategy}")
    for number in (0, 2):
        outer_step(loop, drawn(2, number), 0.5)
        outer_step(other, drawn(2, number), 0.5)
    for ours, theirs in zip(loop.state_dict().values(), other.state_dict().values(), strict=True):
        if isinstance(ours, Tensor):
            torch.testing.assert_close(theirs, ours, **CLOSE)


def support_of(examples: int, number: int = 3) -> Examples:
    y = torch.arange(examples) % 3
    return Examples(torch.arange(examples), y, ways=3, number=torch.tensor(number))


def test_C1_shuffled_passes_visit_every_example_once_and_differ() -> None:
    rows = torch.cat([Shuffled().rows(support_of(7), 3, step) for step in range(7)])
    passes = rows.view(3, 7)
    assert all(sorted(each.tolist()) == list(range(7)) for each in passes)
    assert len({tuple(each.tolist()) for each in passes}) == 3
    assert not torch.equal(passes[0], Shuffled().rows(support_of(7, number=4), 7, 0))
    rotation = torch.cat([Rotation().rows(support_of(7), 3, step) for step in range(7)])
    assert torch.equal(rotation, (torch.arange(7) * 2 % 7).repeat(3))


def test_C4_epochs_end_with_what_is_left() -> None:
    assert batches(5, 4) == 2
    assert batches(5, None) == 1
    rows = [Epochs().rows(support_of(5), 4, step) for step in range(4)]
    assert [len(each) for each in rows] == [4, 1, 4, 1]
    assert sorted(torch.cat(rows[:2]).tolist()) == sorted(torch.cat(rows[2:]).tolist()) == list(range(5))
    assert not torch.equal(torch.cat(rows[:2]), torch.cat(rows[2:]))


def test_C1_test_batches_have_a_size_of_their_own() -> None:
    learner = preset("algorithm.eval_inner_batch=4")
    support = drawn(1).support.map(lambda tensor: tensor[0])
    assert len(learner.training_problem.task._batch(support, 0).y) == 5  # type: ignore[attr-defined]
    assert len(learner.task._batch(support, 0).y) == 4


def test_C1_each_query_is_normalized_with_the_support_set_and_itself() -> None:
    learner = preset("model.norm=support_and_query").eval()
    tasks = drawn(2)
    predictor = learner.adapt(tasks.support)
    answers = predictor(tasks.query.x)
    assert predictor.adapted is not None
    for i in range(2):
        adapted = {name: value[i] for name, value in predictor.adapted.items()}
        for j, query in enumerate(tasks.query.x[i]):
            batch = torch.cat([tasks.support.x[i], query[None]])
            by_hand = torch.func.functional_call(learner.model, adapted, (batch,))[-1]
            torch.testing.assert_close(answers[i, j], by_hand, **CLOSE)
    assert not learner.transductive
    torch.testing.assert_close(predictor(tasks.query.x[:, :1]), answers[:, :1], **CLOSE)


def test_C1_in_meta_training_that_norm_takes_the_batch_at_hand() -> None:
    losses = [preset(f"model.norm={norm}").train().meta_loss(drawn(2)).loss for norm in ("support_and_query", "batch")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("norm", ["support", "support_and_query"])
def test_C1_the_check_before_training_lets_such_norms_pass(norm: str) -> None:
    check_network(preset(f"model.norm={norm}"), drawn(2))


def test_C1_the_last_maps_can_be_flattened() -> None:
    x = torch.rand(3, 1, 28, 28)
    averaged, flat = (Conv4((1, 28, 28), 5, filters=4, downsample="stride", average=average) for average in (None, False))
    assert (averaged.features, flat.features) == (4, 16)
    assert flat(x).shape == (3, 5)
    assert flat(x, maps=True).shape == (3, 4, 2, 2)
