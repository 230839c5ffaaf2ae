"""The interface of data sets: a distribution over tasks for each of three splits."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.problem import Baseline, Line, Problem
from metaloop.records.contents import SplitContents
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec, Examples, Field, Inputs, Tasks, highest

SPLITS = ("train", "validation", "test")


def check_split(name: str) -> None:
    """Raise a UserError if ``name`` is not the name of a split."""
    if name not in SPLITS:
        raise UserError(f"split {name!r} must be one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class Oracle:
    """Predictions that use how episodes are drawn, which no learner knows.

    Attributes:
        name: name in reports.
        predict: function of the split's stream and of tasks that were drawn from it; predictions (tasks, queries, *output).
    """

    name: str
    predict: Callable[[Stream, Tasks], Tensor]


@dataclass(frozen=True)
class NamedExamples:
    """Examples with the names of what they hold.

    Attributes:
        examples: (1, examples, ...), one support set.
        features: names of the features.
        outputs: names of the targets' entries.
    """

    examples: Examples
    features: tuple[str, ...]
    outputs: tuple[str, ...]


class TaskDistribution(ABC):
    """The distribution p(T) over the tasks of one split, on one device.

    Attributes:
        problem: what the tasks ask for, and how predictions are scored.
        input_shape: shape of one example; of the first tensor if inputs are several named tensors.
        episodes: number of episodes that exist; None if it is unlimited.
        spec: the only size that episodes can have; None if any size can be drawn.
        has_unlabelled: whether :meth:`draw` supports ``spec.unlabelled``.
        num_classes: number of classes of the split, which ``Tasks.classes`` numbers from 0; None if there are no such numbers.
        inputs: all examples of the split, (examples, *input); None if they are not listed.
        fields: features that the columns of an input hold, if inputs are categories (examples, columns); empty if they are not.
        cross_validated: whether the support sets of the split's tasks together hold its queries, as in a cross-validation, so
            that no learner may learn from one task to the next.
    """

    problem: Problem
    input_shape: tuple[int, ...]
    episodes: int | None = None
    spec: EpisodeSpec | None = None
    num_classes: int | None = None
    has_unlabelled: bool = False
    inputs: Inputs | None = None
    fields: tuple[Field, ...] = ()
    cross_validated: bool = False

    @abstractmethod
    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError that names the class or config key at fault, if episodes of this size cannot be drawn."""

    @abstractmethod
    def outputs(self, spec: EpisodeSpec) -> int:
        """Number of outputs that a model needs for each query: the (highest) ways, or the size of the target."""

    def elements(self, spec: EpisodeSpec) -> int:
        """Approximate number of input values in an episode, which decides how many episodes are drawn together."""
        examples = highest(spec.ways) * (highest(spec.shots) + spec.queries)
        examples += (highest(spec.ways) + spec.distractors) * spec.unlabelled
        return examples * math.prod(self.input_shape)

    @abstractmethod
    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """Draw the episodes with these numbers, as a pure function of the arguments.

        Args:
            stream: random numbers of the split.
            numbers: (tasks,) int64 numbers of the episodes, on this distribution's device.
            spec: size of the episodes, which has passed :meth:`check`.
        """

    def class_name(self, number: int) -> str:
        """Name of the class with this number, in reports."""
        return f"class {number}"

    def task_classes(self, tasks: Tasks) -> list[str] | None:
        """Names of the classes that the labels of the first task stand for, from label 0; None if classes have no numbers."""
        if tasks.classes is None:
            return None
        return [self.class_name(number) if number >= 0 else "" for number in tasks.classes[0].tolist()]

    def contents(self) -> SplitContents | None:
        """Classes and a digest of the examples, to notice changes; None if the split has no examples to list."""
        return None

    def baseline(self) -> Baseline | None:
        """Predictions without training, to compare with; None if there are none that make sense."""
        return self.problem.baseline(self.input_shape)

    def oracle(self) -> Oracle | None:
        """The best possible predictions; None if they are not known."""
        return None

    def labelled(self) -> Examples | None:
        """All examples of the split (examples, ...) with the task of each as ``sequence``, for models that need targets.

        None if they are not listed.
        """
        return None

    def all_examples(self) -> NamedExamples | None:
        """All examples as one support set, for learners that explain themselves; None if tasks have no common features."""
        return None

    def line(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Line | None:
        """The true functions of these episodes, for plots; None if tasks are not functions of one variable."""
        return None

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Return the same distribution with its tensors on ``device``."""


class Dataset(ABC):
    """The three splits of a data set. Files are read when :meth:`split` is called, not before.

    Attributes:
        needs_tokenizer: whether the constructor takes ``tokenizer``, that of the model, as data sets of texts do.
        encoded_by: identity of the frozen encoder whose features are the inputs, as plain data; None without one.
    """

    needs_tokenizer: ClassVar[bool] = False

    @property
    def encoded_by(self) -> Mapping[str, Any] | None:
        """See above."""
        return None

    def contents(self, name: str) -> SplitContents | None:
        """See :meth:`TaskDistribution.contents`; of the examples themselves where the inputs are features of them."""
        return self.split(name).contents()

    @abstractmethod
    def split(self, name: str) -> TaskDistribution:
        """Return the distribution of ``"train"``, ``"validation"`` or ``"test"``, the same object at every call.

        Raises:
            UserError: the data is missing or broken (the message names path, command and licence), or the split does not exist.
        """

    def counts(self) -> Mapping[str, ExampleCounts]:
        """Counts of the examples of the splits that were opened, for the record; empty if the data set counts none."""
        return {}
