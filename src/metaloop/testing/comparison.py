"""Check a comparison against its contract."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.metric.comparison import Comparison, Embedding
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy
from metaloop.testing.laws import require_equal, require_shape
from metaloop.testing.learner import check_learner
from metaloop.testing.tasks import made_tasks
from metaloop.types import map_inputs

_VECTORS, _IMAGES = (5,), (1, 8, 8)
_WAYS = 3


def check_comparison(
    comparison: Comparison | Callable[[Embedding], Comparison], *, ordered: bool = False, vmap: bool = True
) -> None:
    """Check a comparison against its contract.

    A metric learner that uses the comparison must pass :func:`check_learner`. Two more laws apply: renumbering the classes
    permutes the logits, and tasks of other ways and shots can be answered.

    Args:
        comparison: the comparison, which is not changed, or a function that builds it from an embedding's output size.
        ordered: whether the order of the support set, and so the numbering of the classes, may matter.
        vmap: whether tasks can be run by ``torch.func.vmap``.

    Raises:
        BrokenLaw: a law is broken; the message says by how much.
    """
    instance = comparison if isinstance(comparison, Comparison) else comparison(Embedding(8, (8, 2, 2)))
    shape = _IMAGES if instance.maps else _VECTORS
    learner = MetricLearner(_model(maps=instance.maps), CrossEntropy(), comparison, Loop())
    check_learner(learner, shape, ways=_WAYS, ordered=ordered, vmap=vmap)
    learner = learner.double().eval()
    tasks = made_tasks(shape, ways=_WAYS, unlabelled=2 * _WAYS if learner.uses_unlabelled else 0)
    with torch.no_grad():
        if not ordered:
            numbers = torch.tensor([2, 0, 1])  # class c gets the number numbers[c]
            renumbered = replace(tasks.support, y=numbers[tasks.support.y])
            expected = learner.adapt(tasks.support)(tasks.query.x)
            law = "renumbering the classes must permute the logits and change nothing else"
            require_equal(learner.adapt(renumbered)(tasks.query.x)[..., numbers], expected, law)
        fewer = replace(tasks.support, x=map_inputs(lambda x: x[:, :5], tasks.support.x), y=tasks.support.y[:, :5], ways=2)
        logits = learner.adapt(fewer)(tasks.query.x)
    require_shape(
        logits,
        (*tasks.query.y.shape, 2),
        "tasks of other ways and shots than in training must be answered, by (tasks, queries, ways)",
    )


def _model(*, maps: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if maps:
            return Conv4(_IMAGES, None, filters=8, downsample="stride", norm="layer", kernels=False, halvings=2)
        return MLP(_VECTORS, None, hidden=[8], norm="layer")
