"""Augmentation of the support inputs in each inner step."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.noise import normal, task_number
from metaloop.types import Examples, Inputs


class SupportAugmentation(nn.Module, ABC):
    """An augmentation of the support inputs. Its ``nn.Parameter`` s are meta-parameters."""

    @abstractmethod
    def forward(self, support: Examples, step: int) -> Inputs:
        """Return the inputs (examples, *input) of one task's ``support`` for inner step ``step``."""


class NoAugmentation(SupportAugmentation):
    """No augmentation."""

    def forward(self, support: Examples, step: int) -> Inputs:
        """See :meth:`SupportAugmentation.forward`."""
        return support.x


_STREAM = 2  # of random numbers, see metaloop.inner.noise
_STEP = 40  # lowest bit of the inner step in a noise number; the bits below hold the task's number


class GaussianNoise(SupportAugmentation):
    """Normal noise of a meta-learned standard deviation, drawn anew in every inner step.

    The noise is a function of the task's number and the step, so that the outer loss has a gradient with respect to the
    standard deviation. Its logarithm is what is learned, as hyperparameters are in Maclaurin et al. 2015.

    Args:
        strength: initial standard deviation, in the unit of the inputs (images: 1 is the distance from black to white).
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        if not strength > 0:
            raise UserError(
                f"algorithm.augmentation.strength={strength}: above 0; take algorithm/augmentation=none for no noise"
            )
        self.log_strength = nn.Parameter(torch.tensor(float(strength)).log())

    def forward(self, support: Examples, step: int) -> Inputs:
        """See :meth:`SupportAugmentation.forward`.

        Raises:
            UserError: the inputs are named tensors, such as token ids, to which noise cannot be added.
        """
        if not isinstance(support.x, Tensor):
            raise UserError(
                "algorithm/augmentation=gaussian_noise: noise needs images or numbers, not named inputs such as text; take none"
            )
        noise = normal(task_number(support) + (step << _STEP), _STREAM, support.x.shape, support.x.dtype)
        return support.x + self.log_strength.exp() * noise
