"""A description of the meta-training tasks that a model and a learner are built for."""

from dataclasses import dataclass

from metaloop.data.distribution import TaskDistribution
from metaloop.problems.problem import Problem
from metaloop.types import EpisodeSpec, Examples, Field, Inputs


@dataclass(frozen=True)
class TrainedOn:
    """Description of the meta-training tasks that a model and a learner are built for.

    Attributes:
        problem: Problem of the tasks.
        input_shape: Shape of one example.
        outputs: Number of outputs for a query.
        classes: Number of meta-training classes; None if they are not numbered.
        inputs: Meta-training examples, for models that read them once; None if the data set has no list of them.
        fields: Features that the columns of an input hold, if inputs are categories.
        labelled: Meta-training examples with targets, for models that need them; None if the parameters are loaded, or if the
            data set has no list of them.
    """

    problem: Problem
    input_shape: tuple[int, ...]
    outputs: int
    classes: int | None
    inputs: Inputs | None
    fields: tuple[Field, ...] = ()
    labelled: Examples | None = None


def trained_on(distribution: TaskDistribution, spec: EpisodeSpec) -> TrainedOn:
    """Describe the tasks of a meta-training split in episodes of this size."""
    return TrainedOn(
        problem=distribution.problem,
        input_shape=tuple(distribution.input_shape),
        outputs=distribution.outputs(spec),
        classes=distribution.num_classes,
        inputs=distribution.inputs,
        fields=distribution.fields,
        labelled=distribution.labelled(),
    )
