"""An optimiser that is itself a recurrent network."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.coordinates import LSTMCell, joined, log_and_sign, parted
from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Params


class LearnedOptimizer(InnerRule):
    """``p <- p + scale m(g, h)``: a stack of LSTMs, the same for every coordinate (Andrychowicz et al. 2016, section 2.1).

    Each coordinate has its own state ``h``, which starts at zero. The weights are shared, so that a rule learned on one network
    can train another. Before it is trained, its moves are arbitrary and small. The paper treats gradients as constants, which
    is ``algorithm/meta_gradient=first_order`` here; the exact meta-gradient works, too.

    For each coordinate the state takes ``2 layers hidden`` numbers, and the graph of each step about ``10 layers hidden``.

    Args:
        params: the adapted parameters; only their type is used.
        hidden: units a layer (20 in the paper).
        layers: number of stacked LSTMs (2 in the paper).
        scale: factor of the network's output (0.1 in the paper), above 0.
        preprocess: whether the input is a gradient's logarithm and sign (:func:`log_and_sign`, p = 10) or its bare value.
    """

    def __init__(self, params: Params, hidden: int = 20, layers: int = 2, scale: float = 0.1, preprocess: bool = True) -> None:
        super().__init__(params)
        for key, value in (("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise UserError(f"algorithm.rule.{key}={value}: at least 1")
        if not scale > 0:
            raise UserError(f"algorithm.rule.scale={scale}: above 0")
        dtype = next(iter(params.values())).dtype
        self.hidden = hidden
        self.scale = scale
        self.preprocess = preprocess
        widths = [2 if preprocess else 1] + [hidden] * (layers - 1)
        self.cells = nn.ModuleList(LSTMCell(width, hidden, dtype) for width in widths)
        self.answer = nn.Linear(hidden, 1, dtype=dtype)

    def init(self, params: Params) -> Params:
        """Return zeros, (coordinates, hidden) for each entry."""
        flat = torch.zeros_like(joined(params))
        zeros = flat[:, None].expand(-1, self.hidden)
        return {f"{part}{layer}": zeros for layer in range(len(self.cells)) for part in ("output", "cell")}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        flat = joined({name: gradients[name] for name in params})
        x = log_and_sign(flat) if self.preprocess else flat[:, None]
        after: dict[str, Tensor] = {}
        for layer, cell in enumerate(self.cells):
            x, memory = cell(x, state[f"output{layer}"], state[f"cell{layer}"])
            after |= {f"output{layer}": x, f"cell{layer}": memory}
        moves = parted(self.scale * self.answer(x)[:, 0], params)
        return {name: value + moves[name] for name, value in params.items()}, after
