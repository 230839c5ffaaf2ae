"""How alike two representations of the same examples are."""

import torch
from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Centred kernel alignment with linear kernels (Kornblith et al. 2019, section 3 and equation 3), in [0, 1].

    1 where one is the other turned, mirrored and scaled. It is computed from the examples' inner products, so that wide
    representations cost no more than narrow ones. With few examples and many features it is biased towards 1.

    Args:
        first: (examples, ...) what a layer answers; further axes are flattened.
        second: (examples, ...) of the same examples; it may be of another width.

    Returns:
        A float64 scalar; nan where one of them is the same for all examples.
    """
    left, right = _centred_gram(first), _centred_gram(second)
    return (left * right).sum() / (left.norm() * right.norm())


def _centred_gram(rows: Tensor) -> Tensor:
    """(examples, examples): inner products of the rows less their mean."""
    flat = rows.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat @ flat.T


def mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """The mean over examples of the cosine between an example's two representations, in [-1, 1].

    Args:
        first: (examples, ...); further axes are flattened.
        second: the same shape.

    Returns:
        A float64 scalar; examples of which a representation is zero have no direction and are left out, nan where all are.
    """
    left, right = first.flatten(1).double(), second.flatten(1).double()
    norms = left.norm(dim=1) * right.norm(dim=1)
    return torch.where(norms > 0, (left * right).sum(1) / norms, torch.nan).nanmean()
