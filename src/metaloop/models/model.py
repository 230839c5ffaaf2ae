"""What learners may ask of a network, beside calling it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn

from metaloop.types import Inputs, Tokenizer

HEAD = "head"  # a network's last layer is the submodule of this name


class Model(ABC):
    """A network that says what it is; a base class beside ``nn.Module``.

    Every network of this package is one. A user's network may be one, too; any other ``nn.Module`` is described by
    :func:`metaloop.models.adapter.as_model`.

    ``forward(x)`` maps (examples, *input) to (examples, outputs), or to (examples, features) without a head. Where
    ``takes_weight``, it is ``forward(x, weight=None)``; where there is a ``map_shape``, it takes ``maps=True``, too, and then
    answers feature maps (examples, *map_shape).

    Attributes:
        head: the last layer, the submodule ``head``; None for a network that answers features.
        features: numbers that the head gets to see, or that the network answers without one; None if unknown.
        map_shape: (channels, height, width) of the feature maps; None for a network that has none.
        takes_weight: whether ``forward`` takes ``weight`` (examples,): how much each example counts in the statistics that
            examples share, 0 for padding. See :meth:`metaloop.models.norm.Norm.forward`.
        needs_examples: whether the constructor takes ``examples``, all meta-training inputs.
    """

    head: nn.Module | None
    features: int | None
    map_shape: tuple[int, int, int] | None = None
    takes_weight: bool = False
    needs_examples: ClassVar[bool] = False

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head if it is one linear layer, also one of unit vectors; None otherwise."""
        return self.head if isinstance(self.head, nn.Linear) else None

    def constant_part(self, moving: Collection[str]) -> Callable[[Inputs], Inputs] | None:
        """What comes before the first of the parameters ``moving``, as a function of inputs.

        The network takes its answers in the place of inputs, so that it need be called only once for each example. None if
        little or nothing comes before them.
        """
        return None

    def described(self) -> str:
        """What answers depend on beside weights and constructor arguments, such as the version of a library."""
        return ""


class ReadsTexts(ABC):
    """A model of texts: it names the tokenizer that makes its inputs."""

    @classmethod
    @abstractmethod
    def tokenizer(cls, settings: Mapping[str, object]) -> Tokenizer:
        """The tokenizer of a model with these constructor arguments, those of its config."""


class KeepsFiles(ABC):
    """A model that is made from files, of which a kept copy needs all but the weights."""

    @staticmethod
    @abstractmethod
    def keep(name_or_path: str, folder: Path) -> None:
        """Write into ``folder`` what the model ``name_or_path`` is made from, without the weights."""
