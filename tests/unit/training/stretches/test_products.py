"""Products that are kept as factors give the same numbers, and no task gets a whole weight matrix of its own."""

from collections.abc import Iterator

import pytest
import torch
from torch.fx import GraphModule

from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.inner.execution.over_tasks import Vmap
from metaloop.runs.start import build_parts
from metaloop.training.stretches.captured import leaves_of
from metaloop.training.stretches.products import with_thin_products
from small_runs import described

SINUSOID = (
    "algorithm=maml", "dataset=sinusoid", "model=mlp", "episode=regression", "episode.shots=3", "episode.queries=4",
    "outer.meta_batch=5", "algorithm/over_tasks=vmap",
)  # fmt: skip
WIDTH = 24


def step(*more: str) -> tuple[GraphModule, list[torch.Tensor]]:
    """The meta-gradient of a perceptron as a graph, with arguments in float64."""
    parts = build_parts(described(*SINUSOID, f"model.hidden=[{WIDTH},{WIDTH}]", *more), {})
    learner = parts.learner.double()
    tasks = Episodes(parts.dataset.split("train"), parts.plan.train_spec, Stream(0, "train")).tasks(torch.arange(5))
    leaves, tree = leaves_of(tasks)
    names = [name for name, value in learner.named_parameters() if value.requires_grad]
    values = [learner.get_parameter(name).detach() for name in names]
    leaves = [leaf.double() if leaf.is_floating_point() else leaf for leaf in leaves]

    def gradient(*arguments: torch.Tensor) -> list[torch.Tensor]:
        meta = dict(zip(names, arguments, strict=False))
        batch = torch.utils._pytree.tree_unflatten(list(arguments[len(names) :]), tree)
        gradients, outputs = learner.outer_gradient(meta, batch, Vmap(checked=False))  # type: ignore[operator]
        return [*gradients.values(), outputs["loss"]]

    from torch.fx.experimental.proxy_tensor import make_fx

    example = [*values, *leaves]
    with torch.no_grad():
        return make_fx(gradient, tracing_mode="fake", _allow_non_fake_inputs=True)(*example), example


def shapes(graph: GraphModule) -> Iterator[tuple[int, ...]]:
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            yield tuple(value.shape)


@pytest.mark.parametrize(
    "more",
    [
        (), ("algorithm.steps=3",), ("algorithm=metasgd",), ("algorithm/rule=momentum", "algorithm.steps=2"),
        ("algorithm/adapted=body",), ("algorithm=fomaml", "algorithm.steps=2"),
    ],
    ids=["one step", "three steps", "metasgd", "momentum", "body", "first order"],
)  # fmt: skip
def test_the_numbers_stay(more: tuple[str, ...]) -> None:
    graph, example = step(*more)
    thin = with_thin_products(graph, example)
    for expected, actual in zip(graph(*example), thin(*example), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-13)


def test_images_and_batch_norm_keep_the_factors_too() -> None:
    """Views of what was multiplied otherwise than in the graph become copies; they once put an end to all factors."""
    wide = 64  # more than the 25 queries, of which a product of factors could no longer be thin
    images = ("dataset=glyphs", "episode=5w1s", "episode.queries=5", f"model.hidden=[{wide},{wide}]", "model.norm=batch")
    graph, example = step(*images)
    thin = with_thin_products(graph, example)
    for expected, actual in zip(graph(*example), thin(*example), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    whole = {(5, wide, 784), (5, 784, wide)}
    assert whole & set(shapes(graph))
    assert not whole & set(shapes(thin))


def test_no_task_has_whole_weights() -> None:
    graph, example = step()
    assert (5, WIDTH, WIDTH) in set(shapes(graph))
    assert (5, WIDTH, WIDTH) not in set(shapes(with_thin_products(graph, example)))


def test_sums_and_whole_uses_of_a_product() -> None:
    """Operations that need the whole, other shapes, and operands that differ from task to task."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((4, 30, 2), (4, 2, 20)))
    other, shared, x = (
        torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((4, 30, 20), (30, 20), (4, 3, 30))
    )

    def function(*arguments: torch.Tensor) -> list[torch.Tensor]:
        left, right, other, shared, x = arguments
        product = torch.bmm(left, right)
        moved = shared - 0.5 * product.transpose(1, 2).transpose(1, 2)
        return [
            torch.relu(product), product.sum(0), (-moved).sum(0, keepdim=True), torch.bmm(x, moved / 2),
            torch.bmm(moved.transpose(1, 2), x.transpose(1, 2)), product + other, other - product,
            product + product.view(4, 30, 20), product.reshape(4, 600), torch.bmm(other.transpose(1, 2), moved),
        ]  # fmt: skip

    from torch.fx.experimental.proxy_tensor import make_fx

    example = [left, right, other, shared, x]
    graph = make_fx(function, tracing_mode="fake")(*example)
    for expected, actual in zip(function(*example), with_thin_products(graph, example)(*example), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)
