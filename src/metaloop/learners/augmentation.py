"""What an inner step does to the support inputs before the network sees them."""

from abc import ABC, abstractmethod

from torch import nn

from metaloop.types import Examples, Inputs


class Augmentation(nn.Module, ABC):
    """A change of the support inputs. Its ``nn.Parameter`` s are meta-parameters."""

    @abstractmethod
    def forward(self, support: Examples, step: int) -> Inputs:
        """The inputs (examples, *input) of one task's ``support`` as step ``step`` sees them."""


class Unchanged(Augmentation):
    """The support inputs as they are."""

    def forward(self, support: Examples, step: int) -> Inputs:
        """See :meth:`Augmentation.forward`."""
        return support.x
