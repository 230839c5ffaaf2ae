"""Support and query of one episode in the plane, before and after adaptation."""

import numpy as np
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.trace import Stepwise, Trace, features
from metaloop.learners.learner import Learner
from metaloop.types import Params, Tasks

Points = tuple[Tensor, Tensor]  # features of support and of query


def check_available() -> None:
    """Raise a UserError where scikit-learn is not installed."""
    try:
        import sklearn.decomposition  # noqa: F401
    except ImportError as error:
        raise UserError("metaloop inspect needs scikit-learn: pip install 'metaloop[inspect]'") from error


def embedding_map(learner: Learner, of: Stepwise | None, seen: Trace | None, one: Tasks) -> dict[str, np.ndarray] | None:
    """The two principal components of what the head gets to see of one episode; None for a learner that has no such features.

    They are those of before and after together, so that what moves is what adaptation moved.

    Args:
        learner: eager, whose ``embedding`` is looked at where it does not adapt in steps.
        of: how it adapts; None for one that does not in steps.
        seen: the episode's trace.
        one: the episode, without the tasks axis.

    Returns:
        ``before`` and, for learners that adapt in steps, ``after`` (examples, 2); ``label``, ``is_query`` (examples,);
        ``explained`` (2,) shares of the variance; ``index`` of the episode.
    """
    found: list[tuple[str, Points]] = []
    if of is not None and seen is not None:
        found = [(n, _features(of.task.model, of.meta, p, one)) for n, p in (("before", seen.start), ("after", seen.end))]
    elif learner.embedding is not None:
        meta = {name: value.detach() for name, value in learner.named_parameters()}
        found = [("before", _features(learner.embedding, meta, {}, one))]
    if not found:
        return None
    masks = [_real(part.mask, part.y) for part in (one.support, one.query)]
    labels = [part.y[mask].cpu().numpy() for part, mask in zip((one.support, one.query), masks, strict=True)]
    rows = [torch.cat([points[mask] for points, mask in zip(pair, masks, strict=True)]) for _, pair in found]
    plane, explained = _principal(torch.cat(rows).double().cpu().numpy())
    maps = dict(zip((name for name, _ in found), np.split(plane, len(found)), strict=True))
    is_query = np.repeat([False, True], [len(part) for part in labels])
    about = {"label": np.concatenate(labels), "is_query": is_query, "explained": explained}
    return maps | about | {"index": one.index.cpu().numpy()}


def _features(model: FunctionalModel, meta: Params, params: Params, one: Tasks) -> Points:
    return features(model, meta, params, one.support, one.query.x, one.query.mask)


def _real(mask: Tensor | None, labels: Tensor) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool) if mask is None else mask


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) coordinates and their shares of the variance; zeros where there are fewer than two dimensions."""
    from sklearn.decomposition import PCA

    count = min(2, *rows.shape)
    if not rows.var(0).sum() > 0:  # all points are one
        return np.zeros((len(rows), 2)), np.zeros(2)
    fitted = PCA(count, svd_solver="full")
    plane = fitted.fit_transform(rows)
    room = 2 - count
    return np.pad(plane, ((0, 0), (0, room))), np.pad(fitted.explained_variance_ratio_, (0, room))
