"""Gradient descent in a meta-learned metric."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.learned_rates import key_of
from metaloop.inner.rules.rule import InnerRule, checked_rate
from metaloop.types import Params

_LONGEST = 8192  # the longest axis; its square matrix takes 256 MiB in float32


class MetaCurvature(InnerRule):
    """``p <- p - lr MC(g)``, ``MC(g) = g x_1 M_out x_2 M_in x_3 M_filter`` (Park and Oliva 2019, section 3).

    A weight (out, in, *spatial) has a learned matrix for each of its modes out, in and spatial (flattened). A spatial mode of
    length 1 has none, so that a linear layer has two matrices. Tensors with fewer than two axes (biases and norms' scales) are
    multiplied element by element with a learned vector, as in the re-implementations we know; the paper covers weights only.
    All factors start at the identity, so that training starts as MAML.

    Args:
        params: the adapted parameters.
        lr: inner learning rate, above 0.
        learn_lr: whether the learning rate is a meta-parameter, too (one scalar); the paper keeps it fixed.

    Raises:
        UserError: an axis is too long for a matrix.
    """

    def __init__(self, params: Params, lr: float, learn_lr: bool = False) -> None:
        super().__init__(params)
        dtype = next(iter(params.values())).dtype
        start = checked_rate(lr)
        self.rate = nn.Parameter(torch.tensor(start, dtype=dtype)) if learn_lr else start
        self.factors = nn.ParameterDict(
            {f"{key_of(name)}/{mode}": factor for name, p in params.items() for mode, factor in _identities(name, p).items()}
        )

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        moves = {name: self._transformed(key_of(name), gradient) for name, gradient in gradients.items()}
        return {name: value - self.rate * moves[name] for name, value in params.items()}, state

    def _transformed(self, key: str, gradient: Tensor) -> Tensor:
        if gradient.dim() < 2:
            return gradient * self._factor(key, "scale")
        out, inputs = gradient.shape[:2]
        value = (self._factor(key, "out") @ gradient.reshape(out, -1)).reshape(out, inputs, -1)
        value = self._factor(key, "in") @ value
        if f"{key}/filter" in self.factors:
            value = value @ self._factor(key, "filter").T
        return value.reshape(gradient.shape)

    def _factor(self, key: str, mode: str) -> Tensor:
        factor: Tensor = self.factors[f"{key}/{mode}"]
        return factor


def _identities(name: str, param: Tensor) -> dict[str, nn.Parameter]:
    """Return the initial factors of one parameter, by mode."""
    if param.dim() < 2:
        return {"scale": nn.Parameter(torch.ones_like(param))}
    sizes = {"out": param.shape[0], "in": param.shape[1], "filter": param.shape[2:].numel()}
    if max(sizes.values()) > _LONGEST:
        raise UserError(
            f"algorithm.rule=meta_curvature: {name} {tuple(param.shape)} would need a matrix with more than {_LONGEST} rows; "
            "leave it out with algorithm/adapted=pattern, or take another rule"
        )
    if sizes["filter"] == 1:
        del sizes["filter"]
    return {mode: nn.Parameter(torch.eye(size, dtype=param.dtype, device=param.device)) for mode, size in sizes.items()}
