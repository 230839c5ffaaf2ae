"""A fitted decision tree of scikit-learn in words: whole, and the path of one data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_LEAF = -1


@dataclass(frozen=True)
class Node:
    """A node of a tree. Branches that all choose one learner are one leaf.

    Attributes:
        size: number of training data sets.
        learner: column of the learner that is best on average over them.
        performance: its mean over them.
        gain: by how much it is better there than the single best.
        feature: column of the meta-feature that is asked for; None for a leaf.
        threshold: data sets with at most this value go to ``low``.
        low, high: the children.
    """

    size: int
    learner: int
    performance: float
    gain: float
    feature: int | None = None
    threshold: float = 0.0
    low: "Node | None" = None
    high: "Node | None" = None


def nodes(tree: Any, columns: Sequence[int], y: np.ndarray, x: np.ndarray) -> Node:
    """Read the tree of a fitted regressor.

    Args:
        tree: ``DecisionTreeRegressor.tree_``.
        columns: learners that its outputs stand for.
        y: (n, learners) performances of its training data sets.
        x: (n, features) meta-features, without nan.
    """
    single = int(y.mean(0).argmax())
    inside = tree.decision_path(x.astype(np.float32)).toarray().astype(bool)  # (n, nodes)

    def read(number: int) -> Node:
        mine = y[inside[:, number]]
        learner = columns[int(mine[:, columns].mean(0).argmax())]
        mean = float(mine[:, learner].mean())
        leaf = Node(len(mine), learner, mean, mean - float(mine[:, single].mean()))
        if tree.children_left[number] == _LEAF:
            return leaf
        low, high = read(tree.children_left[number]), read(tree.children_right[number])
        if low.feature is None and high.feature is None and low.learner == high.learner:
            return leaf
        return Node(leaf.size, learner, mean, leaf.gain, int(tree.feature[number]), float(tree.threshold[number]), low, high)

    return read(0)


def leaf_of(node: Node, x: np.ndarray) -> tuple[Node, list[Node]]:
    """The leaf of a data set (features,) and the nodes on the way to it."""
    path = []
    while node.feature is not None:
        path.append(node)
        low = np.float32(x[node.feature]) <= node.threshold
        node = node.low if low else node.high  # type: ignore[assignment]
    return node, path


def printed(node: Node, features: Sequence[str], learners: Sequence[str], unknown: np.ndarray, depth: int = 0) -> Iterator[str]:
    """Lines of the tree."""
    if node.feature is None:
        yield f"{'    ' * depth}→ {learners[node.learner]}  ({_evidence(node)})"
        return
    assert node.low is not None
    assert node.high is not None
    for child, high in ((node.low, False), (node.high, True)):
        yield f"{'    ' * depth}{condition(node, features, unknown, high=high)}:"
        yield from printed(child, features, learners, unknown, depth + 1)


def condition(node: Node, features: Sequence[str], unknown: np.ndarray, *, high: bool) -> str:
    """The question of an inner node as its answer ``high`` or low."""
    assert node.feature is not None
    name, stands = features[node.feature], unknown[node.feature]
    if node.threshold < stands + 1.0 + 1e-6:  # all known values are above
        return f"{name} is known" if high else f"{name} is unknown"
    return f"{name} > {node.threshold:.4g}" if high else f"{name} ≤ {node.threshold:.4g}"


def path_words(path: Sequence[Node], leaf: Node, x: np.ndarray, features: Sequence[str], unknown: np.ndarray) -> Iterator[str]:
    """Sentences: the answers on the way to the leaf, and how sure it is."""
    for node in path:
        assert node.feature is not None
        high = bool(np.float32(x[node.feature]) > node.threshold)
        value = x[node.feature]
        is_unknown = value == unknown[node.feature]
        shown = "it is unknown" if is_unknown else f"it is {value:.4g}"
        yield f"{condition(node, features, unknown, high=high)} ({shown})"
    yield f"there, on {_evidence(leaf)}"


def _evidence(leaf: Node) -> str:
    gain = f"{leaf.gain:+.4f}".replace("-", "−")
    return f"{leaf.size} data sets, {'the single best' if leaf.gain == 0 else f'{gain} against the single best'}"
