"""Map of one episode's support and query examples in two dimensions, before and after adaptation."""

import numpy as np
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.trace import Stepwise, Trace, features
from metaloop.learners.learner import Learner
from metaloop.types import Params, Tasks

Points = tuple[Tensor, Tensor]  # features of support and query examples


def check_available() -> None:
    """Raise a UserError if scikit-learn is not installed."""
    try:
        import sklearn.decomposition  # noqa: F401
    except ImportError as error:
        raise UserError("metaloop inspect needs scikit-learn: pip install 'metaloop[inspect]'") from error


def embedding_map(learner: Learner, stepwise: Stepwise | None, trace: Trace | None, one: Tasks) -> dict[str, np.ndarray] | None:
    """Project the features that the head receives in one episode onto their two principal components.

    The components are those of the features before and after adaptation together, so that a point moves only if adaptation
    changes its features.

    Args:
        learner: Learner in eager mode; the features of its ``embedding`` are used if it takes no inner steps.
        stepwise: How the learner takes inner steps; None if it takes none.
        trace: Trace of the episode; None if the learner takes no inner steps.
        one: The episode, without the tasks axis.

    Returns:
        ``before`` and, for learners that take inner steps, ``after`` (examples, 2); ``label``, ``is_query`` (examples,);
        ``explained`` (2,), shares of the variance; ``index`` of the episode. The caller adds the
        ``names`` of its classes. None for a learner without such features.
    """
    points: list[tuple[str, Points]] = []
    if stepwise is not None and trace is not None:
        states = (("before", trace.start), ("after", trace.end))
        points = [(name, _features(stepwise.task.model, stepwise.meta, params, one)) for name, params in states]
    elif learner.embedding is not None:
        meta = {name: value.detach() for name, value in learner.named_parameters()}
        points = [("before", _features(learner.embedding, meta, {}, one))]
    if not points:
        return None
    masks = [_real(part.mask, part.y) for part in (one.support, one.query)]
    labels = [part.y[mask].cpu().numpy() for part, mask in zip((one.support, one.query), masks, strict=True)]
    rows = [torch.cat([features[mask] for features, mask in zip(pair, masks, strict=True)]) for _, pair in points]
    plane, explained = _principal(torch.cat(rows).double().cpu().numpy())
    maps = dict(zip((name for name, _ in points), np.split(plane, len(points)), strict=True))
    is_query = np.repeat([False, True], [len(part) for part in labels])
    about = {"label": np.concatenate(labels), "is_query": is_query, "explained": explained}
    return maps | about | {"index": one.index.cpu().numpy()}


def _features(model: FunctionalModel, meta: Params, params: Params, one: Tasks) -> Points:
    return features(model, meta, params, one.support, one.query.x, one.query.mask)


def _real(mask: Tensor | None, labels: Tensor) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool) if mask is None else mask


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, 2) and their shares of the variance (2,), padded with zeros below two dimensions."""
    from sklearn.decomposition import PCA

    count = min(2, *rows.shape)
    if not rows.var(0).sum() > 0:  # all points are the same
        return np.zeros((len(rows), 2)), np.zeros(2)
    fitted = PCA(count, svd_solver="full")
    plane = fitted.fit_transform(rows)
    padding = 2 - count
    return np.pad(plane, ((0, 0), (0, padding))), np.pad(fitted.explained_variance_ratio_, (0, padding))
