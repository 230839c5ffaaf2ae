"""Context parameters: a short vector that describes the task to a shared network; it alone adapts."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.selection.adapted import Adapted
from metaloop.inner.selection.attached import LINEAR_MAPS, Part, attach, layers_at, part_names

KINDS = ("concatenate", "film")


class ContextPart(Part):
    """A layer's output, shifted (``concatenate``) or scaled and shifted (``film``) by a learned linear map of the context."""

    def __init__(self, context: nn.Parameter, layer: nn.Module, kind: str) -> None:
        super().__init__()
        weight = layer.weight
        assert isinstance(weight, Tensor)
        width = len(weight)
        self.vector = context
        self.map = nn.Linear(len(context), width if kind == "concatenate" else 2 * width, bias=False)
        self.last = isinstance(layer, nn.Linear | nn.LayerNorm)  # whether channels are the output's last axis, not axis 1
        self.film = kind == "film"
        if not self.film:
            bound = (weight[0].numel() + len(context)) ** -0.5
            nn.init.uniform_(self.map.weight, -bound, bound)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See :meth:`Part.forward`."""
        mapped = torch.unflatten(self.map(self.vector), 0, (2 if self.film else 1, -1))
        if not self.last:
            mapped = mapped.view(*mapped.shape, *(1,) * (y.ndim - 2))
        return y * (1 + mapped[0]) + mapped[1] if self.film else y + mapped[0]


class Context(Adapted):
    """Context parameters (CAVIA, Zintgraf et al. 2019): only ``size`` numbers adapt, which start every task at zero.

    ``concatenate`` (section 3.2) makes them further inputs of a layer by adding ``W_c context`` to its output, with ``W_c``
    drawn as the layer's weight is; a convolution adds it at every place. ``film`` (section 3.3) scales and shifts the channels
    of any module's output: ``(1 + s) y + t`` with ``(s, t)`` linear in the context, so that at the start the output is
    unchanged. Deviation: the authors' scale has no 1, and their map has a bias.

    Args:
        size: number of context parameters.
        at: regular expression over the names of the modules that get the context; never the head.
        kind: "concatenate" or "film".
    """

    def __init__(self, size: int, at: str, kind: str) -> None:
        if size < 1:
            raise UserError(f"algorithm.adapted.size={size}: at least 1")
        if kind not in KINDS:
            raise UserError(f"algorithm.adapted.kind={kind!r}: one of {', '.join(KINDS)}")
        self.size = size
        self.at = at
        self.kind = kind

    def attach(self, model: nn.Module) -> nn.Module:
        """See :meth:`Adapted.attach`.

        Raises:
            UserError: no module fits, or one has no weights that show its number of output channels.
        """
        like = next(model.parameters())
        # Not a meta-parameter, so that every task starts from zero. Its maps are not zero, or no gradient would reach it.
        context = nn.Parameter(torch.zeros(self.size, dtype=like.dtype, device=like.device), requires_grad=False)
        modules = layers_at(model, self.at, LINEAR_MAPS if self.kind == "concatenate" else None)
        last_layers = {name: self._last_layer(name, module) for name, module in modules.items()}
        for name, module in modules.items():
            attach(module, "context", ContextPart(context, last_layers[name], self.kind))
        return model

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`; the one shared vector is named by the first module that gets it."""
        parts = part_names(model, ContextPart)
        return tuple(name for name, _ in model.named_parameters() if name in parts and name.endswith(".vector"))

    def _last_layer(self, name: str, module: nn.Module) -> nn.Module:
        """Return the last layer of ``module`` with a weight, whose first axis has the length of the output's channels."""
        layers = [layer for layer in module.modules() if "weight" in dict(layer.named_parameters(recurse=False))]
        if not layers:
            raise UserError(f"algorithm.adapted.at={self.at!r} matches {name}, which has no weights; name the layer before it")
        return layers[-1]
