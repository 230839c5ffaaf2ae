"""Random changes of training images, batched on their device. They are a function of the episode number alone."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.errors import UserError

_GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Augmentation:
    """Random changes, drawn for every image of an episode. They do not depend on how many episodes are drawn together.

    Attributes:
        padding: pixels of black around the image before a random crop of the original size.
        flip: whether images are mirrored, each with probability 1/2.
        brightness: images are multiplied by a factor in [1 - brightness, 1 + brightness].
        contrast: the same range of factors for the distance from the image's mean.
        saturation: the same range of factors for the distance from the pixel's grey. Values stay in [0, 1].
        rotation: largest angle in degrees by which images are turned about their middle; the border is repeated.

    Raises:
        UserError: a value is out of its range.
    """

    padding: int = 0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.padding, int) or isinstance(self.padding, bool) or self.padding < 0:
            raise UserError(f"dataset.augmentation.padding={self.padding!r} must be a whole number of pixels, at least 0")
        limits = (
            ("brightness", self.brightness, 1),
            ("contrast", self.contrast, 1),
            ("saturation", self.saturation, 1),
            ("rotation", self.rotation, 180),
        )
        for name, value, limit in limits:
            if not 0 <= value <= limit:
                raise UserError(f"dataset.augmentation.{name}={value!r} must be a number from 0 to {limit}")

    def check(self, images: Tensor) -> None:
        """Raise a UserError unless these are images (examples, channels, height, width) that can be changed this way."""
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise UserError("dataset.augmentation: the inputs of the data set are not images; use dataset/augmentation=none")
        if self.saturation and images.shape[1] != 3:
            raise UserError(f"dataset.augmentation.saturation={self.saturation} needs images of three colours; set it to 0")

    def __call__(self, images: Tensor, stream: Stream, numbers: Tensor, part: str) -> Tensor:
        """Change images at random.

        Args:
            images: (tasks, images, channels, height, width) uint8.
            stream: the random numbers of the split.
            numbers: (tasks,) numbers of the episodes.
            part: part of an episode that the images belong to, for example "support". Each part has its own random numbers.

        Returns:
            The changed images, of the same shape, as float32 in [0, 1].
        """
        tasks, count = images.shape[:2]
        flat = images.flatten(0, 1)

        def draw(change: str, bound: int | None = None) -> Tensor:
            """Draw integers (images,) below ``bound``, or floats (images,) in [-1, 1)."""
            purpose = f"{change} of {part}"
            if bound is not None:
                return stream.integers(numbers, count, purpose, bound).flatten()
            return (2 * stream.uniform(numbers, count, purpose) - 1).float().flatten()

        if self.padding or self.flip:
            flat = self._crop(flat, draw("crop", 2 * (2 * self.padding + 1) ** 2))
        # A sum of integers does not depend on the order of addition.
        brightness = flat.flatten(1).sum(1, dtype=torch.int64).float() / (255 * flat[0].numel()) if self.contrast else None
        values = flat.float().div_(255.0)
        if self.rotation:
            values = _rotate(values, draw("rotation") * math.radians(self.rotation))
        if self.brightness or self.contrast or self.saturation:
            values = _change_colors(
                values,
                brightness,
                (1 + self.brightness * draw("brightness"))[:, None, None, None],
                (1 + self.contrast * draw("contrast"))[:, None, None, None],
                (1 + self.saturation * draw("saturation"))[:, None, None, None],
            )
        return torch.unflatten(values, 0, (tasks, count))

    def _crop(self, images: Tensor, choice: Tensor) -> Tensor:
        """Pad, crop and mirror images by ``choice`` (images,), in one gather of bytes."""
        height, width = images.shape[-2:]
        offset, mirror = choice // 2, (choice % 2 == 1) & self.flip
        span = 2 * self.padding + 1
        down, right = offset // span, offset % span
        columns = torch.arange(width, device=images.device).expand(len(images), width)
        columns = torch.where(mirror[:, None], width - 1 - columns, columns) + right[:, None]
        rows = torch.arange(height, device=images.device) + down[:, None]
        index = (rows[:, :, None] * (width + 2 * self.padding) + columns[:, None, :]).flatten(1)
        padded = F.pad(images, (self.padding,) * 4).flatten(2)
        return padded.gather(2, index[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


def _rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate images by ``angles`` (images,) in radians, with bilinear interpolation."""
    height, width = images.shape[-2:]
    y = torch.linspace(1 - height, height - 1, height, device=images.device)[:, None]
    x = torch.linspace(1 - width, width - 1, width, device=images.device)[None]
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    grid = torch.stack([(cos * x - sin * y) / width, (sin * x + cos * y) / height], -1)
    rotated: Tensor = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return rotated


def _change_colors(images: Tensor, mean: Tensor | None, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Change brightness, then contrast about ``mean`` (images,), then saturation, and clamp to [0, 1] at the end."""
    values = images * brightness
    if mean is not None:
        values = values * contrast + (1 - contrast) * brightness * mean[:, None, None, None]
    if images.shape[1] == 3:
        grey = sum(share * channel for share, channel in zip(_GREY, values.unbind(1), strict=True))
        assert isinstance(grey, Tensor)
        values = values * saturation + (1 - saturation) * grey[:, None]
    return values.clamp_(0, 1)
