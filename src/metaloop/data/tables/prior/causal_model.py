"""Random structural causal models, whose nodes become the columns of a synthetic table.

Source: Hollmann et al. 2023, TabPFN, section 4 (perceptrons), with trees as in Breejen et al. 2024 and Qu et al. 2025 (TabICL).
The code and the distributions are our own.
"""

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.data.tables.prior.layers import noisy, perceptron, standardize, trees

LAYERS = 2  # computed layers, below the layer of root causes
_FEW_CLUSTERS, _MANY_CLUSTERS = 10, 30


def root_causes(stream: Stream, numbers: Tensor, rows: int, width: int, *, many: bool) -> tuple[Tensor, Tensor]:
    """Draw the nodes that have no parents.

    In a third of the tasks causes are normal, in a third uniform; in the others they lie in up to ten clusters, or with
    ``many`` in up to thirty, mostly few.

    Returns:
        The causes (tasks, rows, width), standardized, and each row's cluster (tasks, rows), -1 in tasks without clusters.
    """
    tasks = len(numbers)
    normal = stream.normal(numbers, rows * width, "causes").float().view(tasks, rows, width)
    uniform = torch.special.ndtr(normal)
    if many:
        count = 2 + (stream.uniform(numbers, 1, "clusters").square() * (_MANY_CLUSTERS - 1)).long()
    else:
        count = 2 + stream.integers(numbers, 1, "clusters", _FEW_CLUSTERS - 1)
    most = _MANY_CLUSTERS if many else _FEW_CLUSTERS
    cluster = stream.integers(numbers, rows, "cluster of a row", count)
    centres = stream.normal(numbers, most * width, "cluster centres").float().view(tasks, most, width)
    spread = 0.1 + 0.9 * stream.uniform(numbers, 1, "cluster spread").float()[..., None]
    clustered = centres.gather(1, cluster[..., None].expand(-1, -1, width)) + spread * normal
    kind = stream.integers(numbers, 1, "kind of causes", 3)[..., None]
    causes = torch.where(kind == 0, normal, torch.where(kind == 1, uniform, clustered))
    return standardize(causes), torch.where(kind[..., 0] == 2, cluster, -1)


def causal_nodes(
    stream: Stream, numbers: Tensor, rows: int, width: int, *, many: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the values of all nodes of each task's causal model.

    A layer is a perceptron or a layer of trees, by the task's own coin, and sees the layer before and noise.

    Args:
        stream: random numbers of the split.
        numbers: (tasks,) numbers of the episodes.
        rows: number of rows of each table.
        width: number of nodes of a layer.
        many: whether root causes may lie in many clusters.

    Returns:
        All nodes (tasks, rows, nodes), those of the last layer (tasks, rows, width), and each row's cluster (tasks, rows),
        -1 in tasks without clusters.
    """
    layer, cluster = root_causes(stream, numbers, rows, width, many=many)
    kinds = stream.uniform(numbers, LAYERS, "kinds of layers") < 0.5
    layers = [layer]
    for place in range(LAYERS):
        purpose = f"layer {place}"
        computed = torch.where(
            kinds[:, place, None, None],
            perceptron(stream, numbers, layer, purpose),
            trees(stream, numbers, layer, purpose),
        )
        layer = noisy(stream, numbers, computed, purpose)
        layers.append(layer)
    return torch.cat(layers, 2), layer, cluster
