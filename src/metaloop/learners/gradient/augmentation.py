"""What an inner step does to the support inputs before the network sees them."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.noise import normal, task_number
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


_STREAM = 2  # of metaloop.inner.noise
_STEP = 40  # bits of a task's number, above which its step counts


class GaussianNoise(Augmentation):
    """Inputs plus normal noise of a meta-learned standard deviation, drawn anew in every step.

    The noise is a function of the task's number and the step, so that the outer loss is a function that has a gradient with
    respect to the strength; which is learned as its logarithm, as hyper-parameters are in Maclaurin et al. 2015.

    Args:
        strength: the standard deviation's start, in the inputs' unit (images: 1 is from black to white).
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        if not strength > 0:
            raise UserError(
                f"algorithm.augmentation.strength={strength}: above 0; take algorithm/augmentation=none for no noise"
            )
        self.log_strength = nn.Parameter(torch.tensor(float(strength)).log())

    def forward(self, support: Examples, step: int) -> Inputs:
        """See :meth:`Augmentation.forward`.

        Raises:
            UserError: the inputs are named tensors, such as token ids, to which no noise can be added.
        """
        if not isinstance(support.x, Tensor):
            raise UserError("algorithm/augmentation=gaussian_noise adds to images or numbers, not to named inputs such as text")
        noise = normal(task_number(support) + (step << _STEP), _STREAM, support.x.shape, support.x.dtype)
        return support.x + self.log_strength.exp() * noise
