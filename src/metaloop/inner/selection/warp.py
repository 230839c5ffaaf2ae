"""Warp layers: meta-learned maps between the adapted layers that precondition inner gradients and do not adapt."""

import torch
from torch import Tensor, nn

from metaloop.inner.selection.adapted import HEAD, Adapted
from metaloop.inner.selection.attached import LINEAR_MAPS, Part, attach, layers_at, part_names, require_head


class WarpPart(Part):
    """A linear map of a layer's output over channels, which starts as the identity."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.map: nn.Module
        if isinstance(layer, nn.Linear):
            self.map = nn.Linear(layer.out_features, layer.out_features, bias=False)
        else:
            self.map = nn.Conv2d(layer.out_channels, layer.out_channels, 1, bias=False)
        weight = self.map.weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            weight.copy_(torch.eye(len(weight)).view_as(weight))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See :meth:`Part.forward`."""
        warped: Tensor = self.map(y)
        return warped


class Warped(Adapted):
    """All parameters except those of warp layers (T-net, Lee and Choi 2018; WarpGrad, Flennerhag et al. 2020).

    A meta-learned map ``T`` follows a layer ``W x``, so that a step on W moves ``T W x`` by ``-lr T T' g x'x``: the inner
    gradient is preconditioned by ``T T'``, and T is learned to make the step a good one. It is T-net's equation 3, with 1x1
    convolutions after convolution layers. How T is learned is the choice of the meta-gradient: ``algorithm=tnet`` unrolls,
    ``algorithm=warpgrad`` learns it along inner trajectories. Deviation: WarpGrad's warps are 3x3 convolutions with batch norm
    after whole blocks.

    Args:
        at: regular expression over the names of linear and convolution layers that get a warp; never the head.
        head: whether the head adapts, too.
    """

    def __init__(self, at: str = "", *, head: bool = True) -> None:
        self.at = at
        self.head = head

    def attach(self, model: nn.Module) -> nn.Module:
        """See :meth:`Adapted.attach`.

        Raises:
            UserError: no layer fits, or the head is to adapt and there is none.
        """
        if self.head:
            require_head(model, "warped")
        for layer in layers_at(model, self.at, LINEAR_MAPS).values():
            attach(layer, "warp", WarpPart(layer))  # type: ignore[arg-type]
        return model

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        warps = part_names(model, WarpPart)
        return tuple(
            name
            for name, value in model.named_parameters()
            if value.requires_grad and name not in warps and (self.head or not name.startswith(HEAD))
        )
