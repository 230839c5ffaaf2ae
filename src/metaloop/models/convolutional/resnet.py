"""Residual networks of few-shot image classification with our own norms: ResNet-12, ResNet-18 and wide ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.convolutional.dropblock import DropBlock
from metaloop.models.model import Model
from metaloop.models.norm import Norm

STEMS = ("small", "large")


def check_images(input_shape: tuple[int, ...], name: str) -> None:
    """Raise a UserError unless examples are images."""
    if len(input_shape) != 3:
        raise UserError(
            f"model={name} takes images (channels, height, width); the data set gives {tuple(input_shape)}; try model=mlp"
        )


def convolution(channels: int, filters: int, side: int, norm: str, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the image's sides (or divides them by ``stride``), He-initialised by its fan-out."""
    # Batch statistics cancel a bias before them, and the affine map of any other norm has a bias.
    layer = nn.Conv2d(channels, filters, side, stride=stride, padding=side // 2, bias=norm == "none")
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualNet(nn.Module, Model):
    """Base of the networks below: a stem, a sequence of blocks, the mean over places, and a linear head.

    Args:
        stem: layer before the blocks.
        blocks: modules ``(x, weight) -> x``.
        last: layer after the blocks.
        input_shape: (channels, height, width) of an image.
        outputs: number of outputs of the linear head; None for no head.
    """

    takes_weight = True

    def __init__(
        self, stem: nn.Module, blocks: Sequence[nn.Module], last: nn.Module, input_shape: tuple[int, ...], outputs: int | None
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.last = last
        with torch.no_grad():
            shape = self._maps(torch.zeros(2, *input_shape), None).shape  # a batch of one example has no variance
        self.map_shape = (shape[1], shape[2], shape[3])
        self.features = shape[1]
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None

    def forward(self, x: Tensor, weight: Tensor | None = None, *, maps: bool = False) -> Tensor:
        """Map (examples, channels, height, width) to (examples, outputs), or (examples, features) without a head.

        ``weight`` (examples,): see :meth:`metaloop.models.norm.Norm.forward`. With ``maps`` the result is the last feature map.
        """
        x = self._maps(x, weight)
        if maps:
            return x
        x = x.mean((-2, -1))
        return x if self.head is None else self.head(x)

    def _maps(self, x: Tensor, weight: Tensor | None) -> Tensor:
        x = self.stem(x, weight)
        for block in self.blocks:
            x = block(x, weight)
        maps: Tensor = self.last(x, weight)
        return maps


class PassThrough(nn.Module):
    """The identity, in the place of a stem or a last layer."""

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return ``x`` itself."""
        return x


class ConvNorm(nn.Module):
    """A convolution, its norm, and a ReLU if ``active``."""

    def __init__(self, channels: int, filters: int, side: int, norm: str, stride: int = 1, active: bool = False) -> None:
        super().__init__()
        self.conv = convolution(channels, filters, side, norm, stride)
        self.norm = Norm(filters, norm)
        self.active = active

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) to (examples, filters, height / stride, width / stride)."""
        x = self.norm(self.conv(x), weight)
        return F.relu(x) if self.active else x


class Block12(nn.Module):
    """Three convolutions with a 1x1 convolution as shortcut, then 2x2 pooling and DropBlock."""

    def __init__(self, channels: int, filters: int, norm: str, drop: DropBlock) -> None:
        super().__init__()
        widths = (channels, filters, filters)
        self.layers = nn.ModuleList(ConvNorm(width, filters, 3, norm) for width in widths)
        self.shortcut = ConvNorm(channels, filters, 1, norm)
        self.drop = drop

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) to (examples, filters, height // 2, width // 2)."""
        y = x
        for layer in self.layers[:-1]:
            y = F.leaky_relu(layer(y, weight), 0.1)
        y = self.layers[-1](y, weight) + self.shortcut(x, weight)
        maps: Tensor = self.drop(F.max_pool2d(F.leaky_relu(y, 0.1), 2))
        return maps


class ResNet12(ResidualNet):
    """ResNet-12 in the form of Lee et al. (2019), section 4.1 (first used in this form by Oreshkin et al. 2018).

    Args:
        input_shape, outputs: see :class:`ResidualNet`.
        filters: number of filters of each of the four blocks.
        norm: mode of :class:`metaloop.models.norm.Norm`.
        drop_rate: rate of :class:`DropBlock` in training; the first two blocks drop single places. 0.1 in Lee et al.
        drop_size: side of the squares that the last two blocks drop. 5 in Lee et al.
        drop_ramp: training passes until the last two blocks reach ``drop_rate``. 40,000 in Lee et al.

    Raises:
        UserError: images are too small for four halvings, or an argument is out of range.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        filters: Sequence[int] = (64, 160, 320, 640),
        norm: str = "batch",
        drop_rate: float = 0.0,
        drop_size: int = 5,
        drop_ramp: int = 40_000,
    ) -> None:
        check_images(input_shape, "resnet12")
        if len(filters) != 4:
            raise UserError(f"model.filters={list(filters)}: four numbers, one for each block")
        if min(input_shape[1:]) < 16:
            raise UserError(
                f"model=resnet12 halves images four times; {input_shape[1]}x{input_shape[2]} is below 16x16; try model=conv4"
            )
        drops = [DropBlock(drop_rate, 1, 0) for _ in range(2)] + [DropBlock(drop_rate, drop_size, drop_ramp) for _ in range(2)]
        widths = [input_shape[0], *filters]
        blocks = [Block12(widths[i], widths[i + 1], norm, drops[i]) for i in range(4)]
        super().__init__(PassThrough(), blocks, PassThrough(), input_shape, outputs)


class Block18(nn.Module):
    """Two convolutions with the identity as shortcut, or a 1x1 convolution if shapes change."""

    def __init__(self, channels: int, filters: int, norm: str, stride: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [ConvNorm(channels, filters, 3, norm, stride, active=True), ConvNorm(filters, filters, 3, norm)]
        )
        changes = stride > 1 or channels != filters
        self.shortcut = ConvNorm(channels, filters, 1, norm, stride) if changes else PassThrough()

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) to (examples, filters, height / stride, width / stride)."""
        y = self.layers[1](self.layers[0](x, weight), weight)
        return F.relu(y + self.shortcut(x, weight))


class LargeStem(nn.Module):
    """7x7 convolution with stride 2 and 3x3 pooling with stride 2, for photographs."""

    def __init__(self, channels: int, filters: int, norm: str) -> None:
        super().__init__()
        self.layer = ConvNorm(channels, filters, 7, norm, 2, active=True)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) to (examples, filters, height / 4, width / 4)."""
        return F.max_pool2d(self.layer(x, weight), 3, 2, 1)


class ResNet18(ResidualNet):
    """ResNet-18 (He et al. 2016, Table 1).

    Args:
        input_shape, outputs: see :class:`ResidualNet`.
        filters: number of filters of the first pair of blocks; each following pair has twice as many.
        norm: mode of :class:`metaloop.models.norm.Norm`.
        stem: "small" (3x3 convolution, for images of about 32 to 84 pixels) or "large" (the paper's, for 224).

    Raises:
        UserError: examples are not images, or ``stem`` is neither of these.
    """

    def __init__(
        self, input_shape: tuple[int, ...], outputs: int | None, filters: int = 64, norm: str = "batch", stem: str = "small"
    ) -> None:
        check_images(input_shape, "resnet18")
        if stem not in STEMS:
            raise UserError(f"model.stem={stem!r}: one of {', '.join(STEMS)}")
        channels = input_shape[0]
        first = LargeStem(channels, filters, norm) if stem == "large" else ConvNorm(channels, filters, 3, norm, active=True)
        widths = [filters, *(filters * 2**i for i in range(4) for _ in range(2))]
        strides = (1, 1, 2, 1, 2, 1, 2, 1)
        blocks = [Block18(widths[i], widths[i + 1], norm, stride) for i, stride in enumerate(strides)]
        super().__init__(first, blocks, PassThrough(), input_shape, outputs)


class WideBlock(nn.Module):
    """Norm, ReLU and convolution, twice, with dropout between; the shortcut is the identity or a 1x1 convolution."""

    def __init__(self, channels: int, filters: int, norm: str, stride: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(channels, norm), Norm(filters, norm)])
        self.convs = nn.ModuleList([convolution(channels, filters, 3, norm, stride), convolution(filters, filters, 3, norm)])
        self.shortcut = convolution(channels, filters, 1, norm, stride) if channels != filters or stride > 1 else None
        self.dropout = dropout

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) to (examples, filters, height / stride, width / stride)."""
        active = F.relu(self.norms[0](x, weight))
        y = F.relu(self.norms[1](self.convs[0](active), weight))
        if self.dropout:
            y = F.dropout(y, self.dropout, self.training)
        maps: Tensor = self.convs[1](y) + (x if self.shortcut is None else self.shortcut(active))
        return maps


class Stem(nn.Module):
    """A 3x3 convolution without a norm, because the blocks begin with one."""

    def __init__(self, channels: int, filters: int, norm: str) -> None:
        super().__init__()
        self.conv = convolution(channels, filters, 3, norm)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) to (examples, filters, height, width)."""
        maps: Tensor = self.conv(x)
        return maps


class LastNorm(nn.Module):
    """Norm and ReLU after the last block."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return ``x`` after norm and ReLU."""
        return F.relu(self.norm(x, weight))


class WideResNet(ResidualNet):
    """A wide residual network such as WRN-28-10 (Zagoruyko and Komodakis 2016, Table 1).

    Args:
        input_shape, outputs: see :class:`ResidualNet`.
        depth: number of layers, 6 n + 4 for n blocks in each of three groups.
        widen: factor of the groups' 16, 32 and 64 filters.
        norm: mode of :class:`metaloop.models.norm.Norm`.
        dropout: probability of dropout within blocks in training; 0.3 in the paper, where it is used.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        depth: int = 28,
        widen: int = 10,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        check_images(input_shape, "wrn28_10")
        if depth < 10 or depth % 6 != 4:
            raise UserError(f"model.depth={depth}: 6 n + 4, such as 10, 16, 28 or 40")
        if not 0 <= dropout < 1:
            raise UserError(f"model.dropout={dropout!r}: a share from 0 to below 1")
        blocks, channels = [], 16
        for group in range(3):
            for place in range((depth - 4) // 6):
                filters, stride = 16 * widen * 2**group, 2 if group and not place else 1
                blocks.append(WideBlock(channels, filters, norm, stride, dropout))
                channels = filters
        super().__init__(Stem(input_shape[0], 16, norm), blocks, LastNorm(channels, norm), input_shape, outputs)
