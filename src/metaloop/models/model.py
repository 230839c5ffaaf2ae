"""The model contract: what learners may ask of a network besides calling it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import ClassVar

from torch import nn

from metaloop.types import Inputs, Tokenizer

HEAD = "head"  # name of the submodule that is a network's last layer


class Model(ABC):
    """A network that declares its properties; a base class beside ``nn.Module``.

    Every network of this package is a ``Model``. A user's network may be one, too;
    :func:`metaloop.models.adapter.as_model` describes any other ``nn.Module``.

    ``forward(x)`` maps (examples, *input) to (examples, outputs), or to (examples, features) without a head. If
    ``takes_weight``, it is ``forward(x, weight=None)``. If there is a ``map_shape``, it also takes ``maps=True`` and then
    returns feature maps (examples, *map_shape).

    Attributes:
        head: the last layer, the submodule ``head``; None for a network that returns features.
        features: number of inputs of the head, or of outputs without a head; None if unknown.
        map_shape: (channels, height, width) of the feature maps; None for a network without feature maps.
        takes_weight: whether ``forward`` takes ``weight`` (examples,): how much each example counts in the statistics that
            examples share, 0 for padding. See :meth:`metaloop.models.norm.Norm.forward`.
        needs_examples: whether the constructor takes ``examples``, all meta-training inputs.
        needs_fields: whether it takes ``fields``, the features that the columns of an input hold.
        needs_labelled: whether it takes ``labelled``, all meta-training examples with their targets; None where the parameters
            are loaded.
    """

    head: nn.Module | None
    features: int | None
    map_shape: tuple[int, int, int] | None = None
    takes_weight: bool = False
    needs_examples: ClassVar[bool] = False
    needs_fields: ClassVar[bool] = False
    needs_labelled: ClassVar[bool] = False

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head if it is one linear layer, also a :class:`metaloop.models.cosine_head.CosineHead`; None otherwise."""
        return self.head if isinstance(self.head, nn.Linear) else None

    def constant_part(self, moving: Collection[str]) -> Callable[[Inputs], Inputs] | None:
        """Return the part of the network before the first of the parameters ``moving``, as a function of inputs.

        The network accepts the results of this function in the place of inputs, so that the function need be called only once
        for each example. None if little or nothing comes before those parameters.
        """
        return None

    def described(self) -> str:
        """Return what outputs depend on besides weights and constructor arguments, such as the version of a library."""
        return ""


class ReadsTexts(ABC):
    """A model of texts, which names the tokenizer that makes its inputs."""

    @classmethod
    @abstractmethod
    def tokenizer(cls, settings: Mapping[str, object]) -> Tokenizer:
        """Return the tokenizer of a model with these constructor arguments, those of its config."""


class KeepsFiles(ABC):
    """A model that is made from files; a kept copy needs these files without the weights."""

    @staticmethod
    @abstractmethod
    def keep(name_or_path: str, folder: Path) -> None:
        """Write the files of the model ``name_or_path`` into ``folder``, without the weights."""
