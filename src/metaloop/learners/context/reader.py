"""The contract of readers: networks that read a task's support set and answer its queries."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Reader(nn.Module, ABC):
    """A network from one task's (features, label) pairs to answers. Its parameters are meta-parameters.

    Tensors have no task axis, and no shape depends on values, so that vmap can run a reader. metaloop passes the sizes
    ``features``, ``labels`` and ``outputs`` of a feature vector, an encoded label and an answer to the constructor.

    Each entry of a label has its own weights. So permuting the classes of a task permutes the answers only as far as training
    on randomly numbered classes teaches it. VERSA treats all classes alike and is equivariant up to its random draws.

    Attributes:
        ordered: whether the order of the support examples may change the answers. Data sets give a support set class by class,
            at meta-training and at meta-test. With fixed shots the position of an example therefore reveals its class.
    """

    ordered: ClassVar[bool]

    def check(self, *, classifies: bool) -> None:
        """Raise a UserError if the reader cannot learn classification, or regression."""

    @abstractmethod
    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """Answer each query from the support set alone.

        Args:
            support: (examples, features), zero where not ``real``.
            labels: (examples, labels): one-hot classes or regression targets, zero where not ``real``.
            real: (examples,) bool, false for padding, which must not change any answer.
            query: (queries, features).
            number: the task's number, the seed of all random draws; None for a task without one.

        Returns:
            (queries, outputs): logits or values.
        """
