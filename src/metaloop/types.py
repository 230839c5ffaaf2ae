"""The types that all other modules exchange. Of other packages, only torch and numpy are imported here.

Axis words used in shapes all over the project:
``tasks`` tasks of a meta-batch; ``examples`` support or query examples of a task (class by class: example ``c * shots + s``
is shot ``s`` of class ``c``); ``ways`` classes of a task; ``steps`` inner steps; ``input`` and ``target`` one example's shape.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node, tree_map

from metaloop.errors import UserError

Params = Mapping[str, Tensor]  # leaves by qualified name; never mutated
Inputs = Tensor | Mapping[str, Tensor]  # images, or named tensors such as token ids and masks
Span = int | tuple[int, int]  # one number, or an inclusive range drawn per episode


def _span(name: str, value: object) -> Span:
    """Check the value of a key: a positive whole number or an increasing pair of them."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        low, high = value
        if isinstance(low, int) and isinstance(high, int) and 1 <= low <= high:
            return (low, high) if low < high else low
    raise UserError(f"{name}={value!r}: give a whole number of at least 1, or a range [low, high] of such numbers")


def highest(span: Span) -> int:
    """The largest value of a span."""
    return span if isinstance(span, int) else span[1]


def lowest(span: Span) -> int:
    """The smallest value of a span."""
    return span if isinstance(span, int) else span[0]


@dataclass(frozen=True)
class EpisodeSpec:
    """Size of an episode.

    A range ``[low, high]`` for ways or shots is drawn anew for every episode; shorter episodes are padded and masked.

    Attributes:
        ways: Number of classes; 1 for regression.
        shots: Support examples of each class; for regression, support points of the function.
        queries: Query examples of each class; for regression, query points of the function.
        unlabelled: Further support examples of each class that come without labels. They change nothing else of an episode.
        distractors: Number of classes outside the episode, each of which adds ``unlabelled`` examples to the unlabelled ones.
        training: Names of the sizes that ``episode.train`` sets, for error messages; not compared.

    Raises:
        UserError: a number is too small, a range is empty, or there are distractors but no unlabelled examples.
    """

    ways: Span
    shots: Span
    queries: int
    unlabelled: int = 0
    distractors: int = 0
    training: frozenset[str] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ways", _span(self.key("ways"), self.ways))
        object.__setattr__(self, "shots", _span(self.key("shots"), self.shots))
        if not isinstance(_span(self.key("queries"), self.queries), int):
            raise UserError(f"{self.key('queries')}={self.queries!r}: one whole number; only ways and shots may be ranges")
        for name, value in (("unlabelled", self.unlabelled), ("distractors", self.distractors)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise UserError(f"{self.key(name)}={value!r}: a whole number of at least 0")
        if self.distractors and not self.unlabelled:
            raise UserError(
                f"episode.distractors={self.distractors} needs unlabelled examples, but episode.unlabelled=0: set "
                f"episode.unlabelled to at least 1, or episode.distractors=0"
            )

    def key(self, name: str) -> str:
        """The config key of a size, such as ``episode.train.queries``."""
        return f"episode.{'train.' if name in self.training else ''}{name}"

    def said(self, *names: str) -> str:
        """Keys and highest values of some sizes, for an error message."""
        return ", ".join(f"{self.key(name)}={highest(value)}" for name, value in vars(self).items() if name in names)

    @property
    def variable(self) -> bool:
        """Whether episodes differ in size, so that they carry masks."""
        return not (isinstance(self.ways, int) and isinstance(self.shots, int))


def map_inputs(function: Callable[[Tensor], Tensor], x: Inputs) -> Inputs:
    """Apply ``function`` to a tensor, or to each tensor of a mapping."""
    return function(x) if isinstance(x, Tensor) else {name: function(value) for name, value in x.items()}


_Class = TypeVar("_Class")


def pytree(cls: type[_Class]) -> type[_Class]:
    """Register a dataclass as a torch pytree, so that ``tree_map`` and ``torch.func.vmap`` accept it whole.

    Fields that are declared as ``int``, and those that are None, are part of the tree's structure, because vmap accepts
    tensors only. All other fields are children. Fields are read from the instance, so a new one needs no change here.
    """
    numbers = {each.name for each in fields(cls) if each.type is int}  # type: ignore[arg-type]

    def flatten(node: _Class) -> tuple[list[object], tuple[tuple[str, ...], tuple[tuple[str, object], ...]]]:
        children = {name: value for name, value in vars(node).items() if value is not None and name not in numbers}
        rest = tuple((name, value) for name, value in vars(node).items() if name not in children)
        return list(children.values()), (tuple(children), rest)

    def unflatten(children: Iterable[object], context: tuple[tuple[str, ...], tuple[tuple[str, object], ...]]) -> _Class:
        names, rest = context
        return cls(**dict(zip(names, children, strict=True)), **dict(rest))

    register_pytree_node(cls, flatten, unflatten, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}")
    return cls


@dataclass(frozen=True)
class Field:
    """A feature of examples whose inputs are categories, int64 (examples, columns).

    Attributes:
        name: Name of the feature.
        size: Number of codes, or of labels.
        of_user: Whether it describes the user of a recommendation, and so is the same for all examples of a task.
        labels: Whether an example can have several of them. The feature then has ``size`` columns, 1 for a label that the
            example has and 0 for others. If not, it has one column with a code in [0, size), of which 0 means "unknown".
    """

    name: str
    size: int
    of_user: bool = False
    labels: bool = False

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.size if self.labels else 1


@pytree
@dataclass(frozen=True)
class Examples:
    """Labelled examples of stacked tasks, or of one task without the leading axis. A torch pytree.

    Attributes:
        x: (tasks, examples, *input), a tensor or a mapping of tensors.
        y: (tasks, examples) class numbers in [0, ways), or (tasks, examples, *target) values.
        mask: (tasks, examples) bool, which examples are real; None if all are.
        ways: Number of classes that ``y`` can name, the same for all tasks of a stack; 0 for regression.
        number: (tasks,) int64 in [0, 2**40), seed of all randomness inside the task, such as a fresh start or noise. Episodes
            of a data set have one of their own; :class:`Tasks` fills in the index if it is None.
        unlabelled: (tasks, unlabelled, *input), support examples without labels, some of which may belong to none of the
            classes; None if there are none.
        unlabelled_mask: (tasks, unlabelled) bool, which unlabelled examples are real; None if all are.
        sequence: (tasks, examples) int64, number of the sequence that an example is a part of, such as the sentence of a
            word. Parts of a sequence are neighbours and in order; class 0 means "part of no entity". None if examples are
            independent.
        world: the environments of the tasks, in which a learner acts (``metaloop.control``), a torch pytree of tensors
            (tasks, ...); None for tasks that are examples.
    """

    x: Inputs
    y: Tensor
    mask: Tensor | None = None
    ways: int = 0
    number: Tensor | None = None
    unlabelled: Inputs | None = None
    unlabelled_mask: Tensor | None = None
    sequence: Tensor | None = None
    world: object | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Examples":
        """The same examples with ``function`` applied to every tensor except ``number``, which has no examples axis."""
        mapped: Examples = tree_map(function, replace(self, number=None))
        return replace(mapped, number=self.number)


@pytree
@dataclass(frozen=True)
class Queries:
    """Query examples without their labels, the input of an adapted learner. A torch pytree.

    Attributes:
        x: (tasks, queries, *input).
        mask: (tasks, queries) bool, which queries are real; None if all are.
    """

    x: Inputs
    mask: Tensor | None = None


@pytree
@dataclass(frozen=True)
class Tasks:
    """Tasks stacked on the first axis. A torch pytree.

    Attributes:
        support: Examples that a learner adapts to.
        query: Examples that score the adapted learner; their labels never reach ``Learner.adapt``.
        index: (tasks,) int64, number of each task in its episode stream.
        classes: (tasks, ways) int64, number of the split's class that each label of a task stands for, -1 for ways that a
            task does not have; None if the data set does not number its classes.
        outside: (tasks, outside, *input), further queries that belong to none of the classes and should be rejected; None if
            there are none.
    """

    support: Examples
    query: Examples
    index: Tensor
    classes: Tensor | None = None
    outside: Inputs | None = None

    def __post_init__(self) -> None:
        if self.support.number is None:
            object.__setattr__(self, "support", replace(self.support, number=self.index))

    @property
    def unlabelled(self) -> Inputs | None:
        """The support sets' unlabelled examples (tasks, unlabelled, *input); None if there are none."""
        return self.support.unlabelled

    def __len__(self) -> int:
        return len(self.index)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Tasks":
        """The same tasks with ``function`` applied to every tensor."""
        mapped: Tasks = tree_map(function, self)
        return mapped

    def to(self, device: torch.device | str) -> "Tasks":
        """The same tasks on ``device``."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def __getitem__(self, tasks: slice) -> "Tasks":
        return self.map(lambda tensor: tensor[tasks])


@dataclass(frozen=True)
class OuterLoss:
    """Result of ``Learner.meta_loss``.

    Attributes:
        loss: Scalar, the mean over tasks; its gradient is the meta-gradient.
        query_logits: (tasks, queries, ways) or (tasks, queries, *target), after adaptation, detached. For learners that
            predict normal distributions (tasks, queries, *target, 2): means and standard deviations.
        per_step: (tasks, points), query loss at every inner iterate that the objective evaluated, detached.
        resting: Names of the learner's parameters that take no part in this step. Their gradient is zero. The outer loop
            passes no gradient to the optimiser for them, so that neither weight decay nor momentum moves them.
        state: (tasks, ...) each, tensors of the inner rule's state after the last step by name, if it is to be kept for the
            next outer step.
    """

    loss: Tensor
    query_logits: Tensor
    per_step: Tensor
    resting: frozenset[str] = frozenset()
    state: Params = field(default_factory=dict)


class Tokenizer(Protocol):
    """Converts texts to arrays of token ids. A model of texts names the one that makes its inputs.

    Attributes:
        key: identifies vocabulary and settings; part of the cache key of the tokens.
    """

    key: str

    def __call__(self, texts: Sequence[str], length: int) -> Mapping[str, np.ndarray]:
        """Tokenize texts, cut or padded to ``length`` tokens.

        Returns:
            ``input_ids`` and ``attention_mask`` (texts, length) integers, with a mask of 0 for padding. Further arrays of that
            shape are allowed.
        """
        ...

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Mapping[str, np.ndarray]:
        """Tokenize texts that are already split into words.

        Returns:
            As for :meth:`__call__`, and ``first`` (texts, words): the position of each word's first token, -1 for a word
            without a token or after the cut.
        """
        ...


@runtime_checkable
class TellsCut(Tokenizer, Protocol):
    """A tokenizer that also says which texts it cut, so that a data set can count them."""

    def with_cut(self, texts: Sequence[str], length: int) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Tokenize texts as :meth:`Tokenizer.__call__` does.

        Returns:
            Its result, and (texts,) bool, True for a text of more than ``length`` tokens.
        """
        ...
