"""Which parameters the inner loop changes."""

import re
from abc import ABC, abstractmethod

from torch import nn

from metaloop.errors import UserError

HEAD = "head."  # by convention a model's last layer is the submodule ``head``


class Adapted(ABC):
    """A choice among a model's parameters."""

    @abstractmethod
    def names(self, model: nn.Module) -> tuple[str, ...]:
        """The qualified names of the parameters that adapt, in the model's order; at least one.

        Raises:
            UserError: the choice is empty for this model.
        """


def _chosen(model: nn.Module, wanted: "re.Pattern[str]", choice: str) -> tuple[str, ...]:
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    chosen = tuple(name for name in names if wanted.search(name))
    if not chosen:
        raise UserError(f"algorithm.adapted ({choice}) matches no parameter of the model; it has {', '.join(names)}")
    return chosen


class All(Adapted):
    """Every parameter, as in MAML."""

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        return _chosen(model, re.compile(""), "all")


class Head(Adapted):
    """The head alone, as in ANIL (Raghu et al. 2020): features are reused, not relearned."""

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        return _chosen(model, re.compile(f"^{re.escape(HEAD)}"), "head")


class Body(Adapted):
    """All but the head, as in BOIL (Oh et al. 2021): representations change, the classifier stays."""

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        return _chosen(model, re.compile(f"^(?!{re.escape(HEAD)})"), "body")


class Pattern(Adapted):
    """The parameters whose qualified name a regular expression finds, such as ``blocks\\.3|head``."""

    def __init__(self, pattern: str) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise UserError(f"algorithm.adapted.pattern={pattern!r} is no regular expression: {error}") from error

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        return _chosen(model, self.pattern, f"pattern {self.pattern.pattern!r}")
