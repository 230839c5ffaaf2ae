"""Conv-4, the four-block convolutional network of few-shot image classification."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.convolutional import fused, fused_first, fused_stack
from metaloop.models.model import Model
from metaloop.models.norm import OF_EXAMPLES, Norm

DOWNSAMPLES = ("pool", "stride")
BLOCKS = 4


class ConvBlock(nn.Module):
    """3x3 convolution, norm and ReLU; sides are halved by "pool" or "stride", or kept if ``downsample`` is None.

    What follows ``pool`` is the ReLU, also where there is no pooling.
    """

    def __init__(self, channels: int, filters: int, norm: str, downsample: str | None, kernels: bool) -> None:
        super().__init__()
        self.kernels = kernels and fused.fits(filters)
        # Batch statistics cancel a bias before them exactly; other norms need the bias.
        bias = norm not in (*OF_EXAMPLES, "running")
        self.conv = nn.Conv2d(channels, filters, 3, stride=2 if downsample == "stride" else 1, padding=1, bias=bias)
        self.norm = Norm(filters, norm)
        self.pools = downsample == "pool"
        self.pool = nn.MaxPool2d(2) if self.pools else nn.Identity()

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, side, side) to (examples, filters, about side / 2, about side / 2), or keep the sides."""
        if weight is None and self.fusible(x):
            observe = self.norm.observe if self.norm.observes else None
            plain = type(self.conv) is nn.Conv2d and not self.conv._forward_hooks
            if plain and self.pools and fused_first.fits(x, self.conv):
                return fused_first.first_block(x, self.conv.weight, self.norm.weight, self.norm.bias, self.norm.eps, observe)
            strided = plain and self.conv.stride == (2, 2)
            x = fused.convolution(x, self.conv.weight, 2) if strided else self.conv(x)
            return fused.norm_relu_pool(x, self.norm.weight, self.norm.bias, self.norm.eps, self.pools, observe)
        x = self.conv(x)
        x = self.norm(x, weight)
        # Pooling first gives the same result, and leaves a quarter of the numbers to ReLU.
        return F.relu(self.pool(x))

    def stackable(self) -> bool:
        """Return whether this block can be a part of ``fused_stack``: of no subclass, with no hooks, and without pooling."""
        parts = (self, self.conv, self.norm, self.pool)
        hooked = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
        own = type(self) is ConvBlock and type(self.conv) is nn.Conv2d and type(self.norm) is Norm
        return own and not hooked and self.kernels and not self.pools and self.conv.bias is None and self.norm.of_batch

    def fusible(self, x: Tensor) -> bool:
        """Return whether our kernels can replace the norm: they fit, and no subclass or hook changed it."""
        plain = self.kernels and type(self.norm) is Norm and not self.norm._forward_hooks and not self.pool._forward_hooks
        return plain and self.norm.of_batch and fused.usable(x)


class Conv4(nn.Module, Model):
    """Conv-4 (Vinyals et al. 2016; with strides instead of pooling in Finn et al. 2017's Omniglot runs).

    With ``downsample="pool"`` the last feature map is flattened; with "stride" it is averaged over places, as in the code of
    Finn et al. (``average`` can say otherwise). Striding rounds sides up (28, 14, 7, 4, 2), pooling rounds them down (28, 14,
    7, 3, 1).

    Learners that compare feature maps use larger ones, with ``halvings=2`` (Sung et al. 2018, section 4.1; Li et al. 2019,
    section 4.2).

    Args:
        input_shape: (channels, height, width) of an image.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        filters: number of filters of every block.
        downsample: "pool" or "stride".
        norm: mode of :class:`metaloop.models.norm.Norm`.
        kernels: whether to use our own CPU kernels (``fused.py``) where they apply; they have two derivatives.
        halvings: number of blocks that halve the sides, counted from the first.
        average: whether the last feature map is averaged over places; None for "with strides only".
    """

    takes_weight = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        filters: int = 64,
        downsample: str = "pool",
        norm: str = "batch",
        kernels: bool = True,
        halvings: int = BLOCKS,
        average: bool | None = None,
    ) -> None:
        super().__init__()
        if downsample not in DOWNSAMPLES:
            raise UserError(f"model.downsample={downsample!r}: one of {', '.join(DOWNSAMPLES)}")
        if not 0 <= halvings <= BLOCKS:
            raise UserError(f"model.halvings={halvings}: from 0 to {BLOCKS}, the number of blocks")
        if len(input_shape) != 3:
            raise UserError(
                f"model=conv4 takes images (channels, height, width); the data set gives {tuple(input_shape)}; try model=mlp"
            )
        channels, *sides = input_shape
        if downsample == "pool" and min(sides) < 2**halvings:
            raise UserError(
                f"model.halvings={halvings}: {sides[0]}x{sides[1]} is too small for these halvings; try model.downsample=stride"
            )
        widths = [channels] + [filters] * BLOCKS
        blocks = [
            ConvBlock(a, b, norm, downsample if i < halvings else None, kernels) for i, (a, b) in enumerate(pairwise(widths))
        ]
        self.blocks = nn.ModuleList(blocks)
        up = 2**halvings - 1 if downsample == "stride" else 0
        height, width = ((side + up) // 2**halvings for side in sides)
        self.map_shape = (filters, height, width)
        self.average = downsample == "stride" if average is None else average
        self.features = filters if self.average else filters * height * width
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None
        for block in blocks:
            nn.init.xavier_uniform_(block.conv.weight)

    def last_map(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Run the blocks, in one kernel where it can; arguments as for :meth:`forward`."""
        blocks = [block for block in self.blocks if isinstance(block, ConvBlock)]
        together = weight is None and all(block.stackable() for block in blocks)
        if together and blocks[0].conv.stride == (2, 2) and fused.usable(x) and fused_stack.fits(x):
            return fused_stack.blocks(
                x,
                [(block.conv.weight, block.norm.weight, block.norm.bias) for block in blocks],
                [block.conv.stride[0] for block in blocks],
                blocks[0].norm.eps,
                [block.norm.observe if block.norm.observes else None for block in blocks],
            )
        if self.blocks[0].kernels:
            x = fused.channels_last(x)
        for block in self.blocks:
            x = block(x, weight)
        return x

    def forward(self, x: Tensor, weight: Tensor | None = None, *, maps: bool = False) -> Tensor:
        """Map (examples, channels, height, width) to (examples, outputs), or (examples, features) without a head.

        ``weight`` (examples,): see :meth:`metaloop.models.norm.Norm.forward`. With ``maps`` the result is the last feature map.
        """
        x = self.last_map(x, weight)
        if maps:
            return x.contiguous()  # comparisons may run under vmap, whose norms support no other memory format
        x = x.mean((-2, -1)) if self.average else x.flatten(1)
        return x if self.head is None else self.head(x)
