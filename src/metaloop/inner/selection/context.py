"""Context parameters: a short vector that describes the task to a network; as a rule, it alone adapts."""

from itertools import takewhile

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.selection.adapted import Adapted
from metaloop.inner.selection.attached import LINEAR_MAPS, Part, attach, layers_at, part_names

KINDS = ("concatenate", "film")


class ContextPart(Part):
    """A module's output, shifted (``concatenate``) or scaled and shifted (``film``) by a learned linear map of the context.

    Args:
        context: the context vector, which all parts share.
        layer: the layer that makes the output's channels: the first axis of its weight has one entry for each.
        kind: see :class:`Context`.
        residual: see :class:`Context`.
    """

    def __init__(self, context: nn.Parameter, layer: nn.Module, kind: str, *, residual: bool) -> None:
        super().__init__()
        weight = layer.weight
        assert isinstance(weight, Tensor)
        width = len(weight)
        self.film = kind == "film"
        self.vector = context
        self.map = nn.Linear(len(context), 2 * width if self.film else width, bias=self.film and not residual)
        self.last = isinstance(layer, nn.Linear | nn.LayerNorm)  # whether channels are the output's last axis, not axis 1
        self.offset = float(residual)
        if not self.film:
            bound = (weight[0].numel() + len(context)) ** -0.5
            nn.init.uniform_(self.map.weight, -bound, bound)
        elif not residual:
            nn.init.kaiming_uniform_(self.map.weight, nonlinearity="linear")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See :meth:`Part.forward`."""
        mapped = torch.unflatten(self.map(self.vector), 0, (2 if self.film else 1, -1))
        if not self.last:
            mapped = mapped.view(*mapped.shape, *(1,) * (y.ndim - 2))
        return y * (self.offset + mapped[0]) + mapped[1] if self.film else y + mapped[0]


class Context(Adapted):
    """Context parameters (CAVIA, Zintgraf et al. 2019): as a rule only ``size`` numbers adapt, which start every task at zero.

    ``concatenate`` (section 3.2) makes them further inputs of a layer by adding ``W_c context`` to its output, with ``W_c``
    drawn as the layer's weight is; a convolution adds it at every place. ``film`` (section 3.3) scales and shifts the channels
    of any module's output: ``s y + t`` with ``(s, t)`` affine in the context, drawn as in the authors' code. They do so between
    a block's pooling and its ReLU.

    Args:
        size: number of context parameters.
        at: regular expression over the names of the modules that get the context; never the head.
        kind: "concatenate" or "film".
        residual: whether ``film`` is ``(1 + s) y + t`` with ``(s, t)`` linear in the context, so that at the start the output
            is unchanged.
        rest: whether the rest of the network adapts, too. The context is then learned as a part of the start, as the bias
            inputs of MAML in section 4.1.
    """

    def __init__(self, size: int, at: str, kind: str, residual: bool = False, rest: bool = False) -> None:
        if size < 1:
            raise UserError(f"algorithm.adapted.size={size}: at least 1")
        if kind not in KINDS:
            raise UserError(f"algorithm.adapted.kind={kind!r}: one of {', '.join(KINDS)}")
        if residual and kind != "film":
            raise UserError(f"algorithm.adapted.residual=true: for algorithm.adapted.kind=film only, not {kind!r}")
        self.size = size
        self.at = at
        self.kind = kind
        self.residual = residual
        self.rest = rest

    def attach(self, model: nn.Module) -> nn.Module:
        """See :meth:`Adapted.attach`.

        Raises:
            UserError: no module fits, or neither it nor a module before it has weights that show its number of channels.
        """
        like = next(model.parameters())
        # Alone it is no meta-parameter: every task starts from zero. Its maps are not zero, or no gradient would reach it.
        context = nn.Parameter(torch.zeros(self.size, dtype=like.dtype, device=like.device), requires_grad=self.rest)
        modules = layers_at(model, self.at, LINEAR_MAPS if self.kind == "concatenate" else None)
        layers = {name: self._layer_of_channels(model, name) for name in modules}
        for name, module in modules.items():
            part = ContextPart(context, layers[name], self.kind, residual=self.residual)
            attach(module, "context", part.to(like))
        return model

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`; the one shared vector is named by the first module that gets it."""
        if self.rest:
            return tuple(name for name, value in model.named_parameters() if value.requires_grad)
        parts = part_names(model, ContextPart)
        return tuple(name for name, _ in model.named_parameters() if name in parts and name.endswith(".vector"))

    def _layer_of_channels(self, model: nn.Module, name: str) -> nn.Module:
        """Return the last layer with a weight in the module ``name``, or else before it in the module that holds it.

        Its weight's first axis has the length of the output's channels.
        """
        module, holder = model.get_submodule(name), model.get_submodule(name.rpartition(".")[0])
        before = list(takewhile(lambda child: child is not module, holder.children()))
        for part in (module, *reversed(before)):
            weighted = [layer for layer in part.modules() if "weight" in dict(layer.named_parameters(recurse=False))]
            if weighted:
                return weighted[-1]
        raise UserError(f"algorithm.adapted.at={self.at!r} matches {name}, which has no weights; name the layer before it")
