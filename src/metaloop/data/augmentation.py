"""Random changes of training images: batched on the images' device, and a function of the episode's number alone."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.errors import UserError

_GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for every image of an episode; an image of a task does not depend on how many tasks are drawn with it.

    Attributes:
        padding: pixels of black around the image, from which a crop of its own size is taken.
        flip: mirror every other image, left to right.
        brightness, contrast, saturation: each image's is multiplied by a number in [1 - this, 1 + this]; the first two are
            about black and about the image's mean, the last about its greys. Values stay in [0, 1].
        rotation: degrees; each image is turned about its middle by an angle of at most this, its border repeated.

    Raises:
        UserError: a strength is out of its range.
    """

    padding: int = 0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.padding, int) or isinstance(self.padding, bool) or self.padding < 0:
            raise UserError(f"dataset.augmentation.padding={self.padding!r}: pixels, a whole number of at least 0")
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("rotation", 180)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"dataset.augmentation.{name}={getattr(self, name)!r}: a number from 0 to {most}")

    def check(self, images: Tensor) -> None:
        """Raise a UserError unless these are images (examples, channels, height, width) that this can change."""
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise UserError("dataset.augmentation: the data set's inputs are no images; take dataset/augmentation=none")
        if self.saturation and images.shape[1] != 3:
            raise UserError(f"dataset.augmentation.saturation={self.saturation}: only images of three colours have one; take 0")

    def __call__(self, images: Tensor, stream: Stream, numbers: Tensor, part: str) -> Tensor:
        """(tasks, images, channels, height, width) uint8, changed, as float32 in [0, 1].

        Args:
            images: of some episodes.
            stream: the split's random numbers.
            numbers: (tasks,) the episodes' numbers.
            part: which of an episode's images these are, for example "support".
        """
        tasks, count = images.shape[:2]
        flat = images.flatten(0, 1)

        def draw(what: str, bound: int | None = None) -> Tensor:
            """(images,) integers below ``bound``, or floats in [-1, 1)."""
            purpose = f"{what} of {part}"
            if bound is not None:
                return stream.integers(numbers, count, purpose, bound).flatten()
            return (2 * stream.uniform(numbers, count, purpose) - 1).float().flatten()

        if self.padding or self.flip:
            flat = self._moved(flat, draw("crop", 2 * (2 * self.padding + 1) ** 2))
        # Whole numbers have one sum, in whatever order they are added.
        brightness = flat.flatten(1).sum(1, dtype=torch.int64).float() / (255 * flat[0].numel()) if self.contrast else None
        values = flat.float().div_(255.0)
        if self.rotation:
            values = _turned(values, draw("rotation") * math.radians(self.rotation))
        if self.brightness or self.contrast or self.saturation:
            factors = {name: 1 + getattr(self, name) * draw(name) for name in ("brightness", "contrast", "saturation")}
            values = _coloured(values, brightness, **{name: f[:, None, None, None] for name, f in factors.items()})
        return values.unflatten(0, (tasks, count))

    def _moved(self, images: Tensor, choice: Tensor) -> Tensor:
        """Padded, cropped and mirrored by ``choice`` (images,): one gather, of bytes."""
        height, width = images.shape[-2:]
        places, mirror = choice // 2, (choice % 2 == 1) & self.flip
        span = 2 * self.padding + 1
        down, right = places // span, places % span
        columns = torch.arange(width, device=images.device).expand(len(images), width)
        columns = torch.where(mirror[:, None], width - 1 - columns, columns) + right[:, None]
        rows = torch.arange(height, device=images.device) + down[:, None]
        index = (rows[:, :, None] * (width + 2 * self.padding) + columns[:, None, :]).flatten(1)
        padded = F.pad(images, (self.padding,) * 4).flatten(2)
        return padded.gather(2, index[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


def _turned(images: Tensor, angles: Tensor) -> Tensor:
    """Images turned by ``angles`` (images,) in radians, with straight interpolation between pixels."""
    height, width = images.shape[-2:]
    y = torch.linspace(1 - height, height - 1, height, device=images.device)[:, None]
    x = torch.linspace(1 - width, width - 1, width, device=images.device)[None]
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    grid = torch.stack([(cos * x - sin * y) / width, (sin * x + cos * y) / height], -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _coloured(images: Tensor, mean: Tensor | None, *, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Brightness, contrast about ``mean`` (images,), then saturation; in one line of sums, cut to [0, 1] at the end."""
    values = images * brightness
    if mean is not None:
        values = values * contrast + (1 - contrast) * brightness * mean[:, None, None, None]
    if images.shape[1] == 3:
        grey = sum(share * channel for share, channel in zip(_GREY, values.unbind(1), strict=True))
        assert isinstance(grey, Tensor)
        values = values * saturation + (1 - saturation) * grey[:, None]
    return values.clamp_(0, 1)
