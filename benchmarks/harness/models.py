"""The networks as plain torch modules. Parameters are named as in metaloop.models, so one state dict fits all contestants.

Convolutions have no bias, as the batch norm after them cancels it. metaloop leaves it out, so the peers do too.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Convolution, batch norm with the statistics of the batch, ReLU, and downsampling by two."""

    def __init__(self, channels: int, filters: int, downsample: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, stride=2 if downsample == "stride" else 1, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters, track_running_stats=False)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2) if downsample == "pool" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(examples, channels, side, side) to half the side."""
        return self.pool(self.relu(self.norm(self.conv(x))))


class Conv4(nn.Module):
    """Conv-4: with pooling and flattened features, or with strides and features averaged over positions."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, filters: int, downsample: str) -> None:
        super().__init__()
        channels, side = input_shape[0], input_shape[1]
        self.blocks = nn.Sequential(*(Block(a, b, downsample) for a, b in pairwise([channels] + [filters] * 4)))
        self.average = downsample == "stride"
        self.head = nn.Linear(filters if self.average else filters * (side // 16) ** 2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(examples, channels, side, side) to (examples, outputs)."""
        x = self.blocks(x)
        return self.head(x.mean((-2, -1)) if self.average else x.flatten(1))


class Perceptron(nn.Module):
    """Perceptron with two hidden layers of the same width."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(input_shape[0], width), nn.Linear(width, width)])
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(examples, 1) to (examples, outputs)."""
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


class Attention(nn.Module):
    """Self-attention by matrix products and a softmax, as the fused kernel has no double backward on the CPU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(examples, tokens, width) to the same."""
        examples, tokens, width = x.shape
        parts = self.project(x).view(examples, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = F.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, -1)
        return self.out((weights @ value).transpose(1, 2).reshape(examples, tokens, width))


class EncoderLayer(nn.Module):
    """Self-attention and a two-layer network, each after a layer norm and with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(examples, tokens, width) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class Encoder(nn.Module):
    """Transformer encoder with learned positions; the head gets the mean over tokens."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        tokens, features = input_shape
        self.embed, self.positions = nn.Linear(features, width), nn.Embedding(tokens, width)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(examples, tokens, features) to (examples, outputs)."""
        x = self.layers(self.embed(x) + self.positions.weight)
        return self.head(self.norm(x).mean(1))
