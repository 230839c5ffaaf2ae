"""Choices of the parameters that the inner loop changes."""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from metaloop.errors import UserError

HEAD = "head."  # prefix of the head's parameters: by convention a model's last layer is the submodule ``head``


def check_head_names(model: nn.Module) -> None:
    """Raise a UserError if the head's parameters have other names, by which they would count as the body's.

    A parameter's name is the first of the paths to it, in the order in which submodules are assigned.
    """
    head = dict(model.named_modules(remove_duplicate=False)).get(HEAD.removesuffix("."))
    if head is None:
        return
    names = {id(value): name for name, value in model.named_parameters()}
    for name, value in head.named_parameters():
        first = names[id(value)]
        if first.startswith(HEAD):
            continue
        path = first.rpartition(".")[0]
        if model.get_submodule(path) in set(head.modules()):
            raise UserError(
                f"algorithm.adapted: the head's parameters have the name {first!r}, because the head was assigned as {path!r} "
                f"before; assign self.head first, or choose by algorithm/adapted=pattern"
            )
        raise UserError(
            f"algorithm.adapted: the head's {name} is also the parameter {first!r}, so the head cannot adapt without the body; "
            f"take algorithm/adapted=all, or untie them"
        )


class Adapted(ABC):
    """A choice among a model's parameters, which may first add parameters to the model.

    Attributes:
        norms: whether scales and offsets of norm layers adapt if they are among :meth:`names`; if not, a learner leaves them
            out, and the outer loop alone learns them.
    """

    norms: bool = True

    @abstractmethod
    def attach(self, model: nn.Module) -> nn.Module:
        """Return the model with the parameters to adapt in it. Called once, before :meth:`names`; may change ``model``.

        A parameter that is added with ``requires_grad=False`` is not a meta-parameter: it starts every task at its present
        value. Existing parameters keep their names.

        Raises:
            UserError: the parameters cannot be added to this model.
        """

    @abstractmethod
    def names(self, model: nn.Module) -> tuple[str, ...]:
        """Return the qualified names of the parameters that adapt, in the model's order; at least one.

        Raises:
            UserError: the choice is empty for this model.
        """


class Selection(Adapted):
    """A choice among the parameters that the model already has, by qualified name.

    Attributes:
        names_head: whether the choice tells the head from the rest.
    """

    names_head: ClassVar[bool] = False

    @property
    @abstractmethod
    def pattern(self) -> str:
        """Regular expression that is searched for in the parameters' names."""

    def attach(self, model: nn.Module) -> nn.Module:
        """See :meth:`Adapted.attach`; nothing is added."""
        return model

    def names(self, model: nn.Module) -> tuple[str, ...]:
        """See :meth:`Adapted.names`."""
        if self.names_head:
            check_head_names(model)
        names = [name for name, value in model.named_parameters() if value.requires_grad]
        chosen = tuple(name for name in names if re.search(self.pattern, name))
        if not chosen:
            raise UserError(
                f"algorithm.adapted (names with {self.pattern!r}) matches no parameter of the model; it has {', '.join(names)}"
            )
        return chosen


class All(Selection):
    """Every parameter, as in MAML.

    Args:
        norms: see :class:`Adapted`; the code of Finn et al. 2017 and of Antoniou et al. 2019 leaves them out.
    """

    pattern = ""

    def __init__(self, norms: bool = True) -> None:
        self.norms = norms


class Head(Selection):
    """The head alone, as in ANIL (Raghu et al. 2020): features are reused, not adapted."""

    names_head = True
    pattern = f"^{re.escape(HEAD)}"


class Body(Selection):
    """All but the head, as in BOIL (Oh et al. 2021): representations change, the classifier stays.

    Args:
        norms: see :class:`Adapted`.
    """

    names_head = True
    pattern = f"^(?!{re.escape(HEAD)})"

    def __init__(self, norms: bool = True) -> None:
        self.norms = norms


class Pattern(Selection):
    """The parameters whose qualified name contains a match of a regular expression, such as ``blocks\\.3|head``."""

    pattern = ""

    def __init__(self, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"algorithm.adapted.pattern={pattern!r} is not a regular expression: {error}") from error
        self.pattern = pattern
