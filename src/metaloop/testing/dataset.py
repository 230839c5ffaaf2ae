"""Check a data set against its contract."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metaloop.data.distribution import SPLITS, Dataset, TaskDistribution
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.testing.laws import require, require_shape
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest, lowest

_EPISODES = 16


def check_dataset(dataset: Dataset, spec: EpisodeSpec, *, disjoint: bool = True, seed: int = 0) -> None:
    """Check a data set against the contract of :class:`metaloop.data.distribution.Dataset`.

    Episodes must have the requested size and depend on (seed, split, number) only. No support example may be among the queries,
    no class in two splits, and fewer than half of a split's examples in another split.

    Args:
        dataset: the data set, whose splits are read.
        spec: size of the episodes to draw, which the data set must support.
        disjoint: whether support and query examples must differ; False for tasks without generalization, such as optimization.
        seed: seed of the episodes.

    Raises:
        BrokenLaw: a law is broken; the message says by how much.
    """
    drawn: dict[str, Tasks] = {}
    for split in SPLITS:
        distribution = dataset.split(split)
        require(dataset.split(split) is distribution, f"split({split!r}) must return the same object each time")
        episodes = Episodes(distribution, spec, Stream(seed, split))
        count = _EPISODES if distribution.episodes is None else min(_EPISODES, distribution.episodes)
        drawn[split] = episodes.tasks(torch.arange(count))
        _check_numbers(episodes, drawn[split], split)
        _check_size(distribution, drawn[split], spec, split)
        if disjoint:
            _check_queries(drawn[split], split)
    _check_splits(dataset)
    if disjoint:
        _check_examples_of_splits(drawn)


def _check_numbers(episodes: Episodes, tasks: Tasks, split: str) -> None:
    order = torch.arange(len(tasks)).flip(0)
    law = f"{split}: an episode must be a function of its number alone (draw every random number from the stream)"
    for numbers, expected in ((order, tasks.map(lambda t: t.flip(0))), (order[:1], tasks[-1:]), (order.flip(0), tasks)):
        pairs = zip(tree_leaves(episodes.tasks(numbers)), tree_leaves(expected), strict=True)
        changed = sum(not torch.equal(value, wanted) for value, wanted in pairs)
        require(not changed, f"{law}: {changed} tensors differ when episodes {numbers.tolist()} are drawn again")
    if len(tasks) > 1:
        first, second = (_rows(tasks[i : i + 1].support.x) for i in (0, 1))
        require(not torch.equal(first, second), f"{split}: episodes 0 and 1 have the same support set")


def _check_size(distribution: TaskDistribution, tasks: Tasks, spec: EpisodeSpec, split: str) -> None:
    for name, examples in (("support", tasks.support), ("query", tasks.query)):
        where = f"{split}, {name}"
        first = next(iter(tree_leaves(examples.x)))
        require_shape(
            first.double(),
            (*examples.y.shape[:2], *distribution.input_shape),
            f"{where}: inputs must be finite, (tasks, examples, *input_shape)",
        )
        require(len(examples.y) == len(tasks), f"{where}: {len(examples.y)} tasks, where {len(tasks)} were requested")
        if distribution.problem.has_classes:
            _check_classes(distribution, examples, spec, where, of_support=name == "support")
        else:
            require(examples.ways == 0, f"{where}: ways={examples.ways}; a regression task must have ways=0")
            expected = distribution.outputs(spec)
            size = examples.y[0, 0].numel()
            require(size == expected, f"{where}: targets have {size} numbers, but outputs(spec) is {expected}")


def _check_classes(
    distribution: TaskDistribution, examples: Examples, spec: EpisodeSpec, where: str, *, of_support: bool
) -> None:
    require(
        examples.ways == distribution.outputs(spec),
        f"{where}: ways={examples.ways}, but outputs(spec), which sizes the model's answer, is {distribution.outputs(spec)}",
    )
    real = torch.ones_like(examples.y, dtype=torch.bool) if examples.mask is None else examples.mask
    labels = examples.y[real]
    in_range = bool(((labels >= 0) & (labels < examples.ways)).all())
    require(
        in_range, f"{where}: labels range from {int(labels.min())} to {int(labels.max())}; they must be in [0, {examples.ways})"
    )
    if examples.sequence is not None:
        return  # sentences are drawn whole, so the number of words of a class varies
    counts = torch.stack([((examples.y == way) & real).sum(1) for way in range(examples.ways)], 1)
    present = counts > 0
    ways = present.sum(1)
    low, high = lowest(spec.ways), highest(spec.ways)
    require(
        bool(((ways >= low) & (ways <= high)).all()),
        f"{where}: episodes have {int(ways.min())} to {int(ways.max())} classes, but episode.ways is {low} to {high}",
    )
    least, most = (lowest(spec.shots), highest(spec.shots)) if of_support else (spec.queries, spec.queries)
    sizes = counts[present]
    require(
        bool(((sizes >= least) & (sizes <= most)).all()),
        f"{where}: classes have {int(sizes.min())} to {int(sizes.max())} examples, but the episode spec says {least} to {most}",
    )


def _rows(x: Inputs) -> Tensor:
    """Flatten each example to one row: (tasks, examples, numbers)."""
    return torch.cat([tensor.flatten(2).double() for tensor in tree_leaves(x)], -1)


def _real_examples(examples: Examples, task: int) -> set[bytes]:
    """Collect one task's real examples, as bytes."""
    rows = _rows(examples.x)[task]
    rows = rows if examples.mask is None else rows[examples.mask[task]]
    return {row.numpy().tobytes() for row in rows}


def _check_queries(tasks: Tasks, split: str) -> None:
    shared = [len(_real_examples(tasks.support, i) & _real_examples(tasks.query, i)) for i in range(len(tasks))]
    require(
        not any(shared),
        f"{split}: {sum(shared)} examples of {len(tasks)} episodes are in the support set and among the queries "
        f"(is an example in the data twice? disjoint=False for tasks without generalization)",
    )


def _check_splits(dataset: Dataset) -> None:
    pools = {split: pool for split in SPLITS if isinstance(pool := dataset.split(split), ClassPool)}
    for first in pools:
        for second in pools:
            shared = sorted(set(pools[first].names) & set(pools[second].names)) if first < second else []
            require(
                not shared,
                f"{len(shared)} classes are in {first} and in {second}, such as {shared[:3]}; splits must share none",
            )


def _check_examples_of_splits(drawn: dict[str, Tasks]) -> None:
    """Require that fewer than half of a split's examples are in another; with few possible values, some agree by chance."""
    examples = {
        split: set().union(*(_real_examples(part, i) for part in (tasks.support, tasks.query) for i in range(len(tasks))))
        for split, tasks in drawn.items()
    }
    for first in examples:
        for second in examples:
            shared, count = len(examples[first] & examples[second]), len(examples[first])
            law = f"{shared} of {count} examples in the first {_EPISODES} episodes of {first} are in those of {second}"
            require(first == second or 2 * shared < count, law)
