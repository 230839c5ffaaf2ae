"""The contract of a comparison."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.metric.comparison import Comparison, Embedding
from metaloop.learners.metric.metric_learner import Metric
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
    """Hold a comparison to its contract: that of a learner which compares by it (:func:`check_learner`), and two laws more.

    Other names of the classes permute the logits, and other ways and shots can be tested.

    Args:
        comparison: it, or what builds it from an embedding; it stays as it is.
        ordered: whether the order of the support set, and with it the classes' names, may matter.
        vmap: whether tasks can be run by ``torch.func.vmap``.

    Raises:
        BrokenLaw: says which law, and by how much.
    """
    made = comparison if isinstance(comparison, Comparison) else comparison(Embedding(8, (8, 2, 2)))
    shape = _IMAGES if made.maps else _VECTORS
    learner = Metric(_model(maps=made.maps), CrossEntropy(), comparison, Loop())
    check_learner(learner, shape, ways=_WAYS, ordered=ordered, vmap=vmap)
    learner = learner.double().eval()
    tasks = made_tasks(shape, ways=_WAYS, unlabelled=2 * _WAYS if learner.uses_unlabelled else 0)
    with torch.no_grad():
        if not ordered:
            names = torch.tensor([2, 0, 1])  # class c is now called names[c]
            renamed = replace(tasks.support, y=names[tasks.support.y])
            expected = learner.adapt(tasks.support)(tasks.query.x)
            law = "other names of the classes must permute the logits and change nothing else"
            require_equal(learner.adapt(renamed)(tasks.query.x)[..., names], expected, law)
        fewer = replace(tasks.support, x=map_inputs(lambda x: x[:, :5], tasks.support.x), y=tasks.support.y[:, :5], ways=2)
        logits = learner.adapt(fewer)(tasks.query.x)
    require_shape(logits, (*tasks.query.y.shape, 2), "other ways and shots can be tested than were trained")


def _model(*, maps: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if maps:
            return Conv4(_IMAGES, None, filters=8, downsample="stride", norm="layer", kernels=False, halvings=2)
        return MLP(_VECTORS, None, hidden=[8], norm="layer")
