"""Which parameters the inner loop changes."""

import re
from abc import ABC, abstractmethod

from torch import nn

from metaloop.errors import UserError

HEAD = "head."  # by convention a model's last layer is the submodule ``head``


class Adapted(ABC):
    """A choice among a model's parameters, some of which it may first have to add to the model."""

    @abstractmethod
    def attach(self, model: nn.Module) -> nn.Module:
        """The model with what is to adapt in it, called once before :meth:`names`; may change ``model`` and return it.

        A parameter that is added with ``requires_grad=False`` is no meta-parameter: it starts every task at the value it has
        now. The others keep their names.

        Raises:
            UserError: the model has no place for it.
        """

    @abstractmethod
    def names(self, model: nn.Module) -> tuple[str, ...]:
        """The qualified names of the parameters that adapt, in the model's order; at least one.

        Raises:
            UserError: the choice is empty for this model.
        """


class Selection(Adapted):
    """Some of the parameters that the model has, by their qualified name."""

    @property
    @abstractmethod
    def pattern(self) -> str:
        """A regular expression that the name of a chosen parameter contains a match of."""

    def attach(self, model: nn.Module) -> nn.Module:
        """See :meth:`Adapted.attach`; nothing is added."""
        return model

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        names = [name for name, value in model.named_parameters() if value.requires_grad]
        chosen = tuple(name for name in names if re.search(self.pattern, name))
        if not chosen:
            raise UserError(
                f"algorithm.adapted (names with {self.pattern!r}) matches no parameter of the model; it has {', '.join(names)}"
            )
        return chosen


class All(Selection):
    """Every parameter, as in MAML."""

    pattern = ""


class Head(Selection):
    """The head alone, as in ANIL (Raghu et al. 2020): features are reused, not relearned."""

    pattern = f"^{re.escape(HEAD)}"


class Body(Selection):
    """All but the head, as in BOIL (Oh et al. 2021): representations change, the classifier stays."""

    pattern = f"^(?!{re.escape(HEAD)})"


class Pattern(Selection):
    """The parameters whose qualified name a regular expression finds, such as ``blocks\\.3|head``."""

    pattern = ""

    def __init__(self, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"algorithm.adapted.pattern={pattern!r} is no regular expression: {error}") from error
        self.pattern = pattern
