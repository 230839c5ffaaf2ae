"""Baselines: predictions without training, which every meta-learner should beat."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.types import Examples, Inputs


def nearest_neighbour(support: Examples, x: Inputs) -> Tensor:
    """Predict for each query the class of the nearest support example, by Euclidean distance of raw inputs.

    Args:
        support: (tasks, examples, ...).
        x: (tasks, queries, *input). Of named tensors the first is compared.

    Returns:
        (tasks, queries, ways): 1 for the chosen class, else 0.
    """
    left, right = (_flat(inputs) for inputs in (x, support.x))
    return _of_nearest(support, torch.cdist(left, right))


def nearest_text(support: Examples, x: Inputs) -> Tensor:
    """Predict for each query the class of the support text with the most similar words.

    The similarity is the cosine of TF-IDF vectors; document frequencies are those of the support texts, smoothed as in
    :class:`metaloop.models.bag_of_words.BagOfWords`.

    Args:
        support: (tasks, examples, ...), texts.
        x: ``input_ids`` and ``attention_mask`` (tasks, queries, length).

    Returns:
        (tasks, queries, ways): 1 for the chosen class, else 0.
    """
    assert not isinstance(x, Tensor)
    assert not isinstance(support.x, Tensor)
    distances = []
    for task, queries in enumerate(x["input_ids"]):
        ids = torch.cat([support.x["input_ids"][task], queries])
        real = torch.cat([support.x["attention_mask"][task], x["attention_mask"][task]]).float()
        tokens, numbers = torch.unique(ids, return_inverse=True)
        counts = real.new_zeros(len(ids), len(tokens)).scatter_add(1, numbers, real)
        texts, asked = counts[: -len(queries)], counts[-len(queries) :]
        known = texts if support.mask is None else texts[support.mask[task]]
        weights = ((1 + len(known)) / (1 + (known > 0).sum(0))).log() + 1
        texts, asked = (F.normalize(part * weights, dim=-1) for part in (texts, asked))
        distances.append(-asked @ texts.T)
    return _of_nearest(support, torch.stack(distances))


def same_word(support: Examples, x: Inputs) -> Tensor:
    """Predict for each word the most frequent class of the same word in the support set; class 0 for a new word.

    Args:
        support: (tasks, examples, ...), words of sentences.
        x: ``input_ids`` (tasks, queries, length) of the sentences, and ``place`` (tasks, queries, 1) of the words.

    Returns:
        (tasks, queries, ways): the number of these support words of each class, and 0.5 for class 0.
    """
    same = _flat(x) == _flat(support.x).transpose(1, 2)  # (tasks, queries, examples)
    if support.mask is not None:
        same = same & support.mask[:, None]
    votes = same.float() @ F.one_hot(support.y, support.ways).float()
    votes[..., 0] += 0.5
    return votes


def support_mean(support: Examples, x: Inputs) -> Tensor:
    """Predict for each query the mean of the real support targets (tasks, queries, *target)."""
    queries, real = _flat(x).shape[1], support.mask
    if real is None:
        mean = support.y.mean(1, keepdim=True)
    else:
        weight = (real / real.sum(1, keepdim=True)).view(*real.shape, *(1,) * (support.y.ndim - 2)).to(support.y.dtype)
        mean = (support.y * weight).sum(1, keepdim=True)
    return mean.expand(-1, queries, *support.y.shape[2:])


def nearest_inlier(support: Examples, x: Inputs) -> Tensor:
    """Score each query by its distance to the nearest support row whose target is 0, for anomaly scoring.

    Returns:
        (tasks, queries, 1).
    """
    inliers = support.y[..., 0] < 0.5 if support.mask is None else (support.y[..., 0] < 0.5) & support.mask
    distances = torch.cdist(_flat(x), _flat(support.x)).masked_fill(~inliers[:, None], torch.inf)
    return distances.amin(-1, keepdim=True)


def _flat(inputs: Inputs) -> Tensor:
    first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    if not isinstance(inputs, Tensor) and "place" in inputs:
        first = first.gather(2, inputs["place"])
    return first.flatten(2).float()


def _of_nearest(support: Examples, distances: Tensor) -> Tensor:
    """The classes of the nearest support examples, from distances (tasks, queries, examples)."""
    if support.mask is not None:
        distances = distances.masked_fill(~support.mask[:, None], float("inf"))
    return F.one_hot(support.y.gather(1, distances.argmin(-1)), support.ways).to(distances.dtype)
