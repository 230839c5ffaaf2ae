"""A learned optimiser in the form of an LSTM whose cell state is the adapted parameters."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.coordinates import LSTMCell, joined, log_and_sign, parted
from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Params

_SPREAD = 0.01  # range of the gates' initial weights, as in a third-party port; the authors' code was not available


class MetaLSTM(InnerRule):
    """``p <- f p - i g`` with learned gates for every coordinate (Ravi and Larochelle 2017, section 3.1).

    A first LSTM, the same for every coordinate, reads the gradient and the loss, both as logarithm and sign
    (:func:`log_and_sign`). The gates are the sigmoids of affine functions of its output, ``p`` and
    the gate's value at the step before (0 at the first step).

    It starts near gradient descent at rate ``sigmoid(input_bias)`` (0.011 by default) with a decay of ``sigmoid(forget_bias)``
    (0.993). A third-party port draws the biases from [4, 6] and [-5, -4]; the defaults are the midpoints. The paper treats
    gradients and losses as constants, which is ``algorithm/meta_gradient=first_order`` here.

    Args:
        params: the adapted parameters; only their type is used.
        hidden: units of the first LSTM (20 in that port).
        forget_bias: initial bias of the forget gate.
        input_bias: initial bias of the input gate.
    """

    def __init__(self, params: Params, hidden: int = 20, forget_bias: float = 5.0, input_bias: float = -4.5) -> None:
        super().__init__(params)
        if hidden < 1:
            raise UserError(f"algorithm.rule.hidden={hidden}: at least 1")
        dtype = next(iter(params.values())).dtype
        self.hidden = hidden
        self.reader = LSTMCell(4, hidden, dtype)
        self.forget = _gate(hidden, forget_bias, dtype)
        self.input = _gate(hidden, input_bias, dtype)

    def init(self, params: Params) -> Params:
        """Return zeros: (coordinates, hidden) for the first LSTM, (coordinates,) for the gates."""
        flat = torch.zeros_like(joined(params))
        wide = flat[:, None].expand(-1, self.hidden)
        return {"output": wide, "cell": wide, "forget": flat, "input": flat}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        value, gradient = joined(params), joined({name: gradients[name] for name in params})
        inputs = torch.cat([log_and_sign(gradient), log_and_sign(loss).expand(len(gradient), 2)], -1)
        output, cell = self.reader(inputs, state["output"], state["cell"])
        gates = {
            name: gate(torch.cat([output, torch.stack([value, state[name]], -1)], -1))[:, 0].sigmoid()
            for name, gate in (("forget", self.forget), ("input", self.input))
        }
        after = gates["forget"] * value - gates["input"] * gradient
        return parted(after, params), {"output": output, "cell": cell, **gates}


def _gate(hidden: int, bias: float, dtype: torch.dtype) -> nn.Linear:
    gate = nn.Linear(hidden + 2, 1, dtype=dtype)
    with torch.no_grad():
        gate.weight.uniform_(-_SPREAD, _SPREAD)
        gate.bias.fill_(bias)
    return gate
