"""What reads a task's support set and answers its queries."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class Reader(nn.Module, ABC):
    """From one task's (features, label) pairs to answers; its parameters are meta-parameters.

    No leading task axis and no data-dependent shapes, so that vmap runs it. The constructor takes ``features``, ``labels`` and
    ``outputs``, numbers of a feature vector, of a label and of an answer, from the program.

    Labels are inputs with weights of their own, so renaming a task's classes renames the answers only as far as training on
    randomly named classes teaches it; VERSA, which treats all classes alike, does it exactly but for its random draws.

    Attributes:
        ordered: whether the order of the support examples may change the answers. Data sets give a support set class by class,
            in that canonical order at meta-training and at meta-test: so answers do not depend on how a task's examples were
            listed, but where shots are fixed an example's position alone tells its class.
    """

    ordered: ClassVar[bool]

    def check(self, *, classifies: bool) -> None:
        """Raise a UserError where tasks of this kind cannot be learned."""

    @abstractmethod
    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """Answer queries from the support set alone, each by itself.

        Args:
            support: (examples, features), zero where not ``real``.
            labels: (examples, labels): unit vectors of classes or regression targets, zero where not ``real``.
            real: (examples,) bool; padding must not change any answer.
            query: (queries, features).
            number: the task's number, of which all that is drawn at random is a function.

        Returns:
            (queries, outputs): logits, or values.
        """
