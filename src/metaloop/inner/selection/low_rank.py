"""Low-rank adapters: a few parameters beside each weight matrix adapt, for models too large to adapt as a whole."""

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.selection.adapted import HEAD, Adapted
from metaloop.inner.selection.attached import LINEAR_MAPS, Part, attach, layers_at, part_names, require_head, with_head


class LowRankPart(Part):
    """``y + scale * up(down(x))``, where ``down`` has few outputs and ``up`` starts at zero."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, scale: float) -> None:
        super().__init__()
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(layer, nn.Linear):
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        else:
            geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            self.down = nn.Conv2d(layer.in_channels, rank, *geometry, bias=False, padding_mode=layer.padding_mode)  # type: ignore[arg-type]
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)
        self.scale = scale

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See :meth:`Part.forward`."""
        update: Tensor = self.up(self.down(x))
        return y + self.scale * update


class LowRank(Adapted):
    """Low-rank adapters (LoRA, Hu et al. 2021, equation 3): ``W x`` becomes ``W x + (alpha / rank) B A x``; A and B adapt.

    A starts at random and B at zero, so that the model's outputs are unchanged at first. Unlike in the paper, which learns one
    task, both starts are meta-parameters, and so is the rest of the model unless frozen. For a convolution, A is a convolution
    with ``rank`` filters and the same geometry, and B a 1x1 convolution.

    Args:
        rank: rank of the product B A, at least 1.
        alpha: scale; the product is multiplied by ``alpha / rank``.
        at: regular expression over the names of linear and convolution layers that get an adapter; never the head.
        head: whether the whole head adapts, too.
        freeze_base: whether the outer loop changes only the adapters and the head (for trained models).
    """

    def __init__(self, rank: int, alpha: float = 1.0, at: str = "", *, head: bool = True, freeze_base: bool = False) -> None:
        if rank < 1:
            raise UserError(f"algorithm.adapted.rank={rank}: at least 1")
        if not alpha > 0:
            raise UserError(f"algorithm.adapted.alpha={alpha}: above 0")
        self.rank = rank
        self.scale = alpha / rank
        self.at = at
        self.head = head
        self.freeze_base = freeze_base

    def attach(self, model: nn.Module) -> nn.Module:
        """See :meth:`Adapted.attach`.

        Raises:
            UserError: no layer fits, a layer is a grouped convolution, or the head is to adapt and there is none.
        """
        if self.head:
            require_head(model, "low rank")
        layers = layers_at(model, self.at, LINEAR_MAPS)
        if self.freeze_base:
            for name, value in model.named_parameters():
                value.requires_grad_(value.requires_grad and name.startswith(HEAD))
        for name, layer in layers.items():
            if isinstance(layer, nn.Conv2d) and layer.groups != 1:
                raise UserError(f"algorithm.adapted.at={self.at!r} matches {name}, a grouped convolution; choose other layers")
            attach(layer, "low_rank", LowRankPart(layer, self.rank, self.scale))  # type: ignore[arg-type]
        return model

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        return with_head(model, part_names(model, LowRankPart), head=self.head)
