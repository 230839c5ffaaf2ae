"""Similarity of two representations of the same examples."""

import torch
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Compute the centred kernel alignment with linear kernels (Kornblith et al. 2019, section 3 and equation 3).

    It is invariant to rotation, reflection and scaling. It is computed from the examples' inner products, so that the cost
    does not grow with the square of the width. With few examples and many features it is biased towards 1.

    Args:
        first: (examples, ...) output of a layer; further axes are flattened.
        second: (examples, ...) output of another layer for the same examples, of any width.

    Returns:
        A float64 scalar in [0, 1]; nan if a representation is the same for all examples.
    """
    left, right = _centered_gram(first), _centered_gram(second)
    alignment: Tensor = (left * right).sum() / (left.norm() * right.norm())
    return alignment


def _centered_gram(rows: Tensor) -> Tensor:
    """Inner products (examples, examples) of the rows after their mean is subtracted."""
    flat = rows.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat @ flat.T


def mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Compute the mean over examples of the cosine between an example's two representations.

    An example with a representation of zero has no direction and is left out.

    Args:
        first: (examples, ...); further axes are flattened.
        second: the same shape.

    Returns:
        A float64 scalar in [-1, 1]; nan if no example is left.
    """
    left, right = first.flatten(1).double(), second.flatten(1).double()
    norms = left.norm(dim=1) * right.norm(dim=1)
    return torch.where(norms > 0, (left * right).sum(1) / norms, torch.nan).nanmean()
